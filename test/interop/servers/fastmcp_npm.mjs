// A server on fastmcp (npm), as its documentation writes it: `fastmcp_npm.mjs PORT`.
import { setTimeout as sleep } from 'node:timers/promises'
import { FastMCP } from 'fastmcp'
import { z } from 'zod'

const server = new FastMCP({ name: 'fastmcp-npm', version: '1.0.0' })

server.addTool({
  name: 'echo',
  parameters: z.object({ text: z.string() }),
  annotations: { readOnlyHint: true },
  execute: async ({ text }) => text,
})

for (const [name, annotations] of [
  ['slow', {}],
  ['slow_read_only', { readOnlyHint: true }],
]) {
  server.addTool({
    name,
    annotations,
    parameters: z.object({ tag: z.string(), steps: z.number(), ms: z.number() }),
    execute: async ({ tag, steps, ms }, { reportProgress }) => {
      for (let step = 1; step <= steps; step += 1) {
        await sleep(ms)
        await reportProgress({ progress: step, total: steps })
      }
      return `${tag} done after ${steps}`
    },
  })
}

await server.start({ transportType: 'httpStream', httpStream: { port: Number(process.argv[2]) } })
