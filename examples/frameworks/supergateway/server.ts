// A stdio server, as anybody writes it. mcp-persist: nothing here; the script "start" in package.json puts `mcp-persist serve` in front of
// supergateway, which makes it an HTTP server with sessions.
import { setTimeout as sleep } from 'node:timers/promises'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { z } from 'zod'

function buildServer(): McpServer {
  const server = new McpServer({ name: 'supergateway-example', version: '1.0.0' })
  let count = 0
  server.registerTool('counter', { description: 'Counts the calls of this session.' }, () => {
    count += 1
    return { content: [{ type: 'text', text: String(count) }] }
  })
  server.registerTool('ask', { description: 'Asks the user for a name.' }, async () => {
    const { content } = await server.server.elicitInput({
      message: 'name?',
      requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
    })
    return { content: [{ type: 'text', text: `hello ${content?.['name']}` }] }
  })
  server.registerTool(
    'slow',
    {
      description: 'Takes its time, and says how far it is.',
      inputSchema: { steps: z.number() },
      annotations: { readOnlyHint: true },
    },
    async ({ steps }, { _meta, sendNotification }) => {
      for (let progress = 1; progress <= steps; progress += 1) {
        await sleep(100)
        if (_meta?.progressToken === undefined) continue
        const params = { progressToken: _meta.progressToken, progress, total: steps }
        await sendNotification({ method: 'notifications/progress', params })
      }
      return { content: [{ type: 'text', text: 'done' }] }
    },
  )
  return server
}

await buildServer().connect(new StdioServerTransport())
