// A server in another process, in any language, made durable by a process in front of it.
import { withPersistence } from 'mcp-persist'

const upstream = process.env.UPSTREAM_URL ?? 'http://localhost:8000/mcp'
const server = withPersistence({ url: upstream }, process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db')

server.listen(Number(process.env.PORT ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => server.close().then(() => process.exit(0)))
