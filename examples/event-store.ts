// Only the event store, for those who keep their own sessions and transports.
import { randomUUID } from 'node:crypto'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { openStore } from 'mcp-persist'

const store = openStore(process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db')

export function newTransport(): StreamableHTTPServerTransport {
  const id = randomUUID()
  return new StreamableHTTPServerTransport({ sessionIdGenerator: () => id, eventStore: store.forSession(id) })
}
