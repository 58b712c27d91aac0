import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { createTool } from '@mastra/core/tools'
import { MCPServer } from '@mastra/mcp'
import { withPersistence } from 'mcp-persist'
import { z } from 'zod'

const counts = new Map<string, number>()
const counter = createTool({
  id: 'counter',
  description: 'Counts the calls of this session.',
  inputSchema: z.object({}),
  execute: async (_, options) => {
    const session = String(options.extra.sessionId)
    counts.set(session, (counts.get(session) ?? 0) + 1)
    return String(counts.get(session))
  },
})
const ask = createTool({
  id: 'ask',
  description: 'Asks the user for a name.',
  inputSchema: z.object({}),
  execute: async (_, options) => {
    const answer = await options.elicitation.sendRequest({
      message: 'name?',
      requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
    })
    return `hello ${answer.content?.['name']}`
  },
})
const slow = createTool({
  id: 'slow',
  description: 'Takes its time, and says how far it is.',
  inputSchema: z.object({ steps: z.number() }),
  execute: async ({ context }, { extra }) => {
    const { progressToken } = extra._meta ?? {}
    for (let progress = 1; progress <= context.steps; progress += 1) {
      await sleep(100)
      if (progressToken === undefined) continue
      const params = { progressToken, progress, total: context.steps }
      await extra.sendNotification({ method: 'notifications/progress', params })
    }
    return 'done'
  },
})
const server = new MCPServer({ name: 'mastra-example', version: '1.0.0', tools: { counter, ask, slow } })

const listener = (req: IncomingMessage, res: ServerResponse) =>
  server.startHTTP({
    url: new URL(req.url ?? '', 'http://localhost'),
    httpPath: '/mcp',
    req,
    res,
    options: { sessionIdGenerator: () => randomUUID() },
  })

// mcp-persist: these lines, instead of createServer(listener).listen(3000).
const persistent = withPersistence(listener, process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
persistent.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => persistent.close().then(() => process.exit(0)))
