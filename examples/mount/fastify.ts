import fastify from 'fastify'
import { withPersistence } from 'mcp-persist'
import { buildServer } from '../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)

const app = fastify()
app.all('/mcp', (request, reply) => mcp(request, reply))
await app.listen({ port: Number(process.env.PORT ?? 3000) })
console.log('ready')
