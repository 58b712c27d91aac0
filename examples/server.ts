// An ordinary MCP server on Express, with its own map of sessions. Nothing in it knows of mcp-persist
// but the last three lines.
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { persistentSessionId, withPersistence } from 'mcp-persist'
import { z } from 'zod'

function buildServer(): McpServer {
  const server = new McpServer({ name: 'countdown', version: '1.0.0' }, { capabilities: { logging: {} } })
  server.registerTool(
    'countdown',
    {
      description: 'Counts down, one number every 200 ms',
      inputSchema: { from: z.number().int().min(1).max(100) },
      // A second run does no harm: an interrupted call may be run again.
      annotations: { readOnlyHint: true },
    },
    async ({ from }, { sendNotification, sessionId }) => {
      for (let left = from; left > 0; left -= 1) {
        await sendNotification({ method: 'notifications/message', params: { level: 'info', data: left } })
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
      return { content: [{ type: 'text', text: `lift-off in session ${sessionId}` }] }
    },
  )
  return server
}

const app = createMcpExpressApp()
const transports = new Map<string, StreamableHTTPServerTransport>()

app.all('/mcp', async (req, res) => {
  const id = req.headers['mcp-session-id']
  let transport = typeof id === 'string' ? transports.get(id) : undefined
  if (!transport) {
    if (id) {
      res
        .status(404)
        .json({ jsonrpc: '2.0', error: { code: -32001, message: 'Session not found' }, id: null })
      return
    }
    const opened = new StreamableHTTPServerTransport({
      sessionIdGenerator: persistentSessionId,
      onsessioninitialized: (sessionId) => void transports.set(sessionId, opened),
    })
    opened.onclose = () => void transports.delete(opened.sessionId ?? '')
    await buildServer().connect(opened)
    transport = opened
  }
  await transport.handleRequest(req, res, req.body)
})

const server = withPersistence(app, process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)
server.listen(Number(process.env.PORT ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => server.close().then(() => process.exit(0)))
