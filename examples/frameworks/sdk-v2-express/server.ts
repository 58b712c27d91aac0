import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { createMcpExpressApp } from '@modelcontextprotocol/express'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { McpServer } from '@modelcontextprotocol/server'
import { withPersistence } from 'mcp-persist'
import { z } from 'zod'

function buildServer(): McpServer {
  const server = new McpServer({ name: 'sdk-v2-express-example', version: '1.0.0' })
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
  return server
}

const transports = new Map<string, NodeStreamableHTTPServerTransport>()

async function transportFor(id: string | undefined): Promise<NodeStreamableHTTPServerTransport | undefined> {
  if (id !== undefined) return transports.get(id)
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (opened) => void transports.set(opened, transport),
    onsessionclosed: (closed) => void transports.delete(closed),
  })
  await buildServer().connect(transport)
  return transport
}

const app = createMcpExpressApp()
app.all('/mcp', async (req, res) => {
  const transport = await transportFor(req.get('mcp-session-id'))
  if (!transport) return void res.status(404).send('Session not found')
  await transport.handleRequest(req, res, req.body)
})

// mcp-persist: these lines, instead of app.listen(3000).
const server = withPersistence(app, process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
server.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => server.close().then(() => process.exit(0)))
