// The shortest server: a factory, no session map, no framework. It answers at /mcp.
import { withPersistence } from 'mcp-persist'
import { buildServer } from './countdown.ts'

const server = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', {
  ttl: 3600,
  retryInterval: 200,
  lease: 5,
})
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log('ready'))

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, async () => {
    await server.close({ deadline: 8000 })
    process.exit(0)
  })
}
