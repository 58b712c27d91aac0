import { setTimeout as sleep } from 'node:timers/promises'
import { ZodJsonSchemaAdapter } from '@tmcp/adapter-zod'
import { HttpTransport } from '@tmcp/transport-http'
import { withPersistence } from 'mcp-persist'
import { McpServer } from 'tmcp'
import { z } from 'zod'

const text = (said: unknown) => ({ content: [{ type: 'text' as const, text: String(said) }] })

const server = new McpServer(
  { name: 'tmcp-example', version: '1.0.0', description: 'An example.' },
  { adapter: new ZodJsonSchemaAdapter(), capabilities: { tools: {} } },
)
const counts = new Map<string, number>()
server.tool({ name: 'counter', description: 'Counts the calls of this session.' }, () => {
  const session = server.ctx.sessionId ?? ''
  counts.set(session, (counts.get(session) ?? 0) + 1)
  return text(counts.get(session))
})
server.tool({ name: 'ask', description: 'Asks the user for a name.' }, async () => {
  const { content } = await server.elicitation('name?', z.object({ name: z.string() }))
  return text(`hello ${content?.name}`)
})
server.tool(
  {
    name: 'slow',
    description: 'Takes its time, and says how far it is.',
    schema: z.object({ steps: z.number() }),
    annotations: { readOnlyHint: true },
  },
  async ({ steps }) => {
    for (let progress = 1; progress <= steps; progress += 1) {
      await sleep(100)
      server.progress(progress, steps)
    }
    return text('done')
  },
)
const transport = new HttpTransport(server, { path: '/mcp' })

// mcp-persist: these lines, instead of createServer(createRequestListener((request) => transport.respond(request))).
const persistent = withPersistence(transport, process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
persistent.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => persistent.close().then(() => process.exit(0)))
