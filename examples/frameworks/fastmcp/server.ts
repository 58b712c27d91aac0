import { setTimeout as sleep } from 'node:timers/promises'
import { FastMCP } from 'fastmcp'
import { withPersistence } from 'mcp-persist'
import { z } from 'zod'

function buildServer(): FastMCP {
  const server = new FastMCP({ name: 'fastmcp-example', version: '1.0.0' })
  let count = 0
  server.addTool({
    name: 'counter',
    description: 'Counts the calls of this session.',
    execute: async () => {
      count += 1
      return String(count)
    },
  })
  server.addTool({
    name: 'ask',
    description: 'Asks the user for a name.',
    execute: async (_, { elicit }) => {
      const { content } = await elicit({
        message: 'name?',
        requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
      })
      return `hello ${content?.['name']}`
    },
  })
  server.addTool({
    name: 'slow',
    description: 'Takes its time, and says how far it is.',
    parameters: z.object({ steps: z.number() }),
    annotations: { readOnlyHint: true },
    execute: async ({ steps }, { reportProgress }) => {
      for (let progress = 1; progress <= steps; progress += 1) {
        await sleep(100)
        await reportProgress({ progress, total: steps })
      }
      return 'done'
    },
  })
  return server
}

// mcp-persist: these lines, instead of server.start({ transportType: 'httpStream' }).
const persistent = withPersistence(() => buildServer(), process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
persistent.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => persistent.close().then(() => process.exit(0)))
