import { setTimeout as sleep } from 'node:timers/promises'
import { createMcpHandler } from 'mcp-handler'
import { withPersistence } from 'mcp-persist'
import { z } from 'zod'

const handler = createMcpHandler(
  (server) => {
    let count = 0
    server.registerTool('counter', { description: 'Counts the calls of this session.' }, async () => {
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
        inputSchema: z.object({ steps: z.number() }),
        annotations: { readOnlyHint: true },
      },
      async ({ steps }, { mcpReq }) => {
        const progressToken = mcpReq._meta?.progressToken
        for (let progress = 1; progress <= steps; progress += 1) {
          await sleep(100)
          if (progressToken === undefined) continue
          await mcpReq.notify({
            method: 'notifications/progress',
            params: { progressToken, progress, total: steps },
          })
        }
        return { content: [{ type: 'text', text: 'done' }] }
      },
    )
  },
  {},
  { basePath: '' },
)

// mcp-persist: these lines, instead of export { handler as GET, handler as POST }.
const persistent = withPersistence(handler, process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
persistent.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => persistent.close().then(() => process.exit(0)))
