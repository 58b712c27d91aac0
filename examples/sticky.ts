// Behind a load balancer that pins each session to a process: only events are stored.
import { withPersistence } from 'mcp-persist'
import { buildServer } from './countdown.ts'

const server = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', {
  ttl: 3600,
  sessions: 'sticky',
})
server.listen(Number(process.env.PORT ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => server.close().then(() => process.exit(0)))
