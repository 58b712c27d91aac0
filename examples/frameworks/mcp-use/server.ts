import { setTimeout as sleep } from 'node:timers/promises'
import { withPersistence } from 'mcp-persist'
import { MCPServer, text } from 'mcp-use/server'
import { z } from 'zod'

const server = new MCPServer({ name: 'mcp-use-example', version: '1.0.0' })
const counts = new Map<string, number>()
server.tool({ name: 'counter', description: 'Counts the calls of this session.' }, async (_, { session }) => {
  counts.set(session.sessionId, (counts.get(session.sessionId) ?? 0) + 1)
  return text(String(counts.get(session.sessionId)))
})
server.tool({ name: 'ask', description: 'Asks the user for a name.' }, async (_, { elicit }) => {
  const { data } = await elicit('name?', z.object({ name: z.string() }))
  return text(`hello ${data?.name}`)
})
server.tool(
  {
    name: 'slow',
    description: 'Takes its time, and says how far it is.',
    schema: z.object({ steps: z.number() }),
    annotations: { readOnlyHint: true },
  },
  async ({ steps }, { reportProgress }) => {
    for (let progress = 1; progress <= steps; progress += 1) {
      await sleep(100)
      await reportProgress?.(progress, steps)
    }
    return text('done')
  },
)

// mcp-persist: these lines, instead of await server.listen(3000).
const persistent = withPersistence(server, process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
persistent.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => persistent.close().then(() => process.exit(0)))
