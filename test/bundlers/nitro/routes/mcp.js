import { fromWebHandler } from 'h3'
import { withPersistence } from 'mcp-persist'
import { buildServer } from '../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', {
  ttl: 3600,
  retryInterval: 200,
  lease: 5,
})

export default fromWebHandler((request) => mcp.fetch(request))
