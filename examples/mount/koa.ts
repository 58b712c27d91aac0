import Koa from 'koa'
import { withPersistence } from 'mcp-persist'
import { buildServer } from '../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)

const app = new Koa()
app.use((context, next) => (context.path === '/mcp' ? mcp(context) : next()))
app.listen(Number(process.env.PORT ?? 3000), () => console.log('ready'))
