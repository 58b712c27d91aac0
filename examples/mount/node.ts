import { createServer } from 'node:http'
import { withPersistence } from 'mcp-persist'
import { buildServer } from '../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)

createServer((req, res) => mcp(req, res)).listen(Number(process.env.PORT ?? 3000), () => console.log('ready'))
