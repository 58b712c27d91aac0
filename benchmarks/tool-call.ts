// A tool call, wrapped and unwrapped, side by side: rounds alternate, so that a change in the machine's speed meets both.
// `tool-call.ts [--once] [--store URL] [--shape express|hono|factory]`
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Figures, LoadClient, load, median, startServer, stopServer } from './support/load.ts'

const { values } = parseArgs({
  options: { once: { type: 'boolean' }, store: { type: 'string' }, shape: { type: 'string' } },
})
const rounds = values.once ? 1 : 9
const shapes = values.shape ? [values.shape] : ['express', 'hono', 'factory']
const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-bench-'))
const store = values.store ?? `sqlite:${join(folder, 'bench.db')}`

console.log(
  `store ${store.split(':')[0]}, node ${process.version}, ${rounds} rounds, medians; ratios are wrapped/unwrapped`,
)
console.log('shape    clients  throughput      ratio   p50 ms           p99 ms           cpu ms')
for (const shape of shapes) {
  for (const clients of [1, 16]) {
    const calls = values.once ? 50 : clients === 1 ? 800 : 2400
    const plain = await prepare(clients, shape)
    const wrapped = await prepare(clients, shape, store)
    const results: { plain: Figures; wrapped: Figures }[] = []
    for (let round = 0; round <= rounds; round += 1) {
      const first = await load([plain.server], plain.clients, calls)
      const second = await load([wrapped.server], wrapped.clients, calls)
      // The first round warms both up.
      if (round > 0) results.push({ plain: first, wrapped: second })
    }
    await plain.stop()
    await wrapped.stop()
    const of = (pick: (figures: Figures) => number) => ({
      plain: median(results.map((each) => pick(each.plain))),
      wrapped: median(results.map((each) => pick(each.wrapped))),
      ratio: median(results.map((each) => pick(each.wrapped) / pick(each.plain))),
    })
    const [throughput, p50, p99, cpu] = [
      of((f) => f.throughput),
      of((f) => f.p50),
      of((f) => f.p99),
      of((f) => f.cpu),
    ]
    console.log(
      `${shape.padEnd(8)} ${String(clients).padStart(7)}  ` +
        `${throughput.wrapped.toFixed(0).padStart(5)} / ${throughput.plain.toFixed(0).padStart(5)}  ` +
        `${throughput.ratio.toFixed(2).padStart(6)}   ` +
        `${p50.wrapped.toFixed(2).padStart(6)} / ${p50.plain.toFixed(2).padStart(5)}  ` +
        `${p99.wrapped.toFixed(2).padStart(6)} / ${p99.plain.toFixed(2).padStart(5)}  ` +
        `${cpu.wrapped.toFixed(3)} / ${cpu.plain.toFixed(3)} = ${cpu.ratio.toFixed(2)}`,
    )
  }
}
rmSync(folder, { recursive: true, force: true })

async function prepare(count: number, ...args: string[]) {
  const server = await startServer(...args)
  const clients = Array.from({ length: count }, () => new LoadClient(server.port))
  for (const client of clients) await client.open()
  const stop = async () => {
    for (const client of clients) client.close()
    await stopServer(server)
  }
  return { server, clients, stop }
}
