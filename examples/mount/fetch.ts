// For runtimes and routers that speak Request and Response. Here Hono's Node adapter is the runtime.
import { serve } from '@hono/node-server'
import { withPersistence } from 'mcp-persist'
import { buildServer } from '../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)

const handler = { fetch: (request: Request) => mcp.fetch(request) }
serve({ fetch: handler.fetch, port: Number(process.env.PORT ?? 3000) }, () => console.log('ready'))
