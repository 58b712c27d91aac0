// A health check beside the endpoint: `health()` never throws.
import express from 'express'
import { withPersistence } from 'mcp-persist'
import { buildServer } from './countdown.ts'

const mcp = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)
let draining = false

const app = express()
app.all('/mcp', mcp)
app.get('/livez', (_req, res) => void res.send('ok'))
app.get('/readyz', async (_req, res) => {
  const health = await mcp.store.health()
  res.status(health.ok && !draining ? 200 : 503).json(health)
})

const server = app.listen(Number(process.env.PORT ?? 3000), () => console.log('ready'))
process.once('SIGTERM', async () => {
  draining = true
  await mcp.close({ deadline: 20_000 })
  server.close(() => process.exit(0))
})
