// The quick start, as a user of that release of the SDK writes it. `SDK`: v1 or v2; `CLIENT`: the store gets a client of this
// package in place of the URL.
// `STDIO`: the server is a process for each session, which this file starts anew with `stdio` as its argument.
import { openStore, PostgresEventStore, RedisEventStore, withPersistence } from 'mcp-persist'
import { z } from 'zod'

const { SDK, CLIENT, STDIO, MCP_PERSIST_URL, PORT } = process.env
const isChild = process.argv[2] === 'stdio'
const pause = () => new Promise((resolve) => setTimeout(resolve, 200))
const text = (value) => ({ content: [{ type: 'text', text: value }] })

const { McpServer } =
  SDK === 'v2'
    ? await import('@modelcontextprotocol/server')
    : await import('@modelcontextprotocol/sdk/server/mcp.js')

function buildServer() {
  const server = new McpServer({ name: 'countdown', version: '1.0.0' }, { capabilities: { logging: {} } })
  let calls = 0
  server.registerTool('count', { description: 'Counts its calls' }, async () => {
    calls += 1
    return text(`call ${calls}, process ${isChild ? process.ppid : process.pid}`)
  })
  const from = z.number().int()
  server.registerTool(
    'countdown',
    {
      description: 'Counts down',
      inputSchema: SDK === 'v2' ? z.object({ from }) : { from },
      annotations: { readOnlyHint: true },
    },
    async (args, context) => {
      const notify = SDK === 'v2' ? context.mcpReq.notify : context.sendNotification
      for (let left = args.from; left > 0; left -= 1) {
        await notify({ method: 'notifications/message', params: { level: 'info', data: left } })
        await pause()
      }
      return text('lift-off')
    },
  )
  return server
}

async function store() {
  switch (CLIENT) {
    case 'ioredis': {
      const { Redis } = await import('ioredis')
      return new RedisEventStore({ client: new Redis(MCP_PERSIST_URL, { lazyConnect: true }) })
    }
    case 'redis': {
      const { createClient } = await import('redis')
      return new RedisEventStore({ client: createClient({ url: MCP_PERSIST_URL }) })
    }
    case 'pg': {
      const { default: pg } = await import('pg')
      const pool = new pg.Pool({ connectionString: MCP_PERSIST_URL })
      return new PostgresEventStore({ pool, autoMigrate: true, schema: process.env.SCHEMA })
    }
    default:
      return openStore(MCP_PERSIST_URL, { autoMigrate: true })
  }
}

if (isChild) {
  const { StdioServerTransport } = await import('@modelcontextprotocol/server/stdio')
  process.stdin.once('end', () => process.exit(0))
  await buildServer().connect(new StdioServerTransport())
} else {
  const stdio = { command: process.execPath, args: [process.argv[1], 'stdio'], env: { SDK } }
  const app = STDIO ? { stdio } : () => buildServer()
  const server = withPersistence(app, await store(), { ttl: 60, retryInterval: 200, lease: 2 })
  server.listen(Number(PORT), '127.0.0.1', () => console.log('ready'))
}
