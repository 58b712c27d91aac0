import { withPersistence } from 'mcp-persist'
import { buildServer } from '../../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', {
  ttl: 3600,
  retryInterval: 200,
  lease: 5,
})
const handle = (request) => mcp.fetch(request)

export { handle as DELETE, handle as GET, handle as POST }
