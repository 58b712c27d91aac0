import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { withPersistence } from 'mcp-persist'
import { buildServer } from '../countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)

const app = new Hono()
app.all('/mcp', (context) => mcp.fetch(context.req.raw))
serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 3000) }, () => console.log('ready'))
