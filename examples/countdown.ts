// The server of the smaller examples. Each session gets one of its own, so `calls` counts within one session.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { z } from 'zod'

export function buildServer(): McpServer {
  const server = new McpServer({ name: 'countdown', version: '1.0.0' }, { capabilities: { logging: {} } })
  let calls = 0
  server.registerTool(
    'count',
    { description: 'Counts its calls in this session, and names the process that runs it' },
    async () => {
      calls += 1
      return { content: [{ type: 'text', text: `call ${calls}, process ${process.pid}` }] }
    },
  )
  server.registerTool(
    'countdown',
    {
      description: 'Counts down, one number every 200 ms',
      inputSchema: { from: z.number().int().min(1).max(100) },
      annotations: { readOnlyHint: true },
    },
    async ({ from }, { sendNotification }) => {
      for (let left = from; left > 0; left -= 1) {
        await sendNotification({ method: 'notifications/message', params: { level: 'info', data: left } })
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
      return { content: [{ type: 'text', text: 'lift-off' }] }
    },
  )
  return server
}
