import { randomUUID } from 'node:crypto'
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { buildConformanceServer } from './conformance-server.ts'
import { InMemoryEventStore } from './in-memory-event-store.ts'

/** The fixture for the official conformance suite as an ordinary Express app, with the SDK's check of the Host header. */
export function conformanceApp() {
  const app = createMcpExpressApp()
  const transports = new Map<string, StreamableHTTPServerTransport>()
  app.all('/mcp', async (req, res) => {
    const id = req.headers['mcp-session-id']
    let transport = typeof id === 'string' ? transports.get(id) : undefined
    if (!transport && id !== undefined) {
      res
        .status(404)
        .json({ jsonrpc: '2.0', error: { code: -32001, message: 'Session not found' }, id: null })
      return
    }
    if (!transport) {
      const opened = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new InMemoryEventStore(),
        retryInterval: 500,
        onsessioninitialized: (sessionId) => void transports.set(sessionId, opened),
      })
      opened.onclose = () => void transports.delete(opened.sessionId ?? '')
      await buildConformanceServer().connect(opened as unknown as Transport)
      transport = opened
    }
    await transport.handleRequest(req, res, req.body)
  })
  return app
}
