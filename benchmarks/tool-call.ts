// A tool call, wrapped and unwrapped, side by side: rounds alternate, so that a change in the machine's speed meets both.
// Exits with 1 when an answer is lost, doubled or not that of its call.
// `tool-call.ts [--once] [--store redis|postgres|sqlite] [--shape express|hono|factory]`
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { openStore } from 'mcp-persist'
import { type Figures, LoadClient, load, median, startServer, stopServer } from './support/load.ts'
import { backendsBy, sharedStore } from './support/shared-store.ts'
import { formatTable, ms, ratio } from './support/table.ts'

const { values } = parseArgs({
  options: { once: { type: 'boolean' }, store: { type: 'string' }, shape: { type: 'string' } },
})
const once = values.once === true
const rounds = once ? 1 : 9
const shapes = values.shape ? [values.shape] : ['express', 'hono', 'factory']

interface Round {
  readonly plain: Figures
  readonly wrapped: Figures
  /** Milliseconds of one append, one after the other; the median. */
  readonly append: number
}

const titles: string[] = []
const throughput: string[][] = []
const latency: string[][] = []
for (const backend of backendsBy(values.store)) {
  const store = await sharedStore(backend)
  titles.push(store.title)
  for (const shape of shapes) {
    for (const count of [1, 16]) {
      const results = await measure(store.url, shape, count)
      const name = `${backend}, ${shape}, ${count} ${count === 1 ? 'client' : 'clients'}`
      const of = (pick: (round: Round) => number) => median(results.map(pick))
      const both = (pick: (figures: Figures) => number) =>
        [of(({ wrapped }) => pick(wrapped)), of(({ plain }) => pick(plain))] as const
      const [rates, p50, p99, cpu] = [
        both((f) => f.throughput),
        both((f) => f.p50),
        both((f) => f.p99),
        both((f) => f.cpu),
      ]
      throughput.push([
        name,
        rates.map((each) => each.toFixed(0)).join(' / '),
        ratio(of(({ wrapped, plain }) => wrapped.throughput / plain.throughput)),
        cpu.map((each) => each.toFixed(3)).join(' / '),
        ratio(of(({ wrapped, plain }) => wrapped.cpu / plain.cpu)),
      ])
      latency.push([
        name,
        p50.map(ms).join(' / '),
        p99.map(ms).join(' / '),
        ms(of(({ wrapped, plain }) => wrapped.p50 - plain.p50)),
        ms(of(({ append }) => append)),
        ratio(of(({ wrapped, plain, append }) => (wrapped.p50 - plain.p50) / append)),
      ])
    }
  }
  await store.close()
}
const [cpu] = cpus()
console.log(`${cpus().length} cores (${cpu?.model}), node ${process.version}; ${titles.join('; ')}`)
console.log(`wrapped / unwrapped, medians of ${rounds} rounds. Every call had its answer, once.`)
const head = ['tool call', 'calls/s', 'ratio', 'cpu ms', 'ratio']
console.log(`\n${formatTable({ head, rows: throughput })}`)
const columns = ['ms', 'p50', 'p99', 'added', 'one append', 'ratio']
console.log(`\n${formatTable({ head: columns, rows: latency })}`)

/** The first round warms both up. */
async function measure(url: string, shape: string, count: number): Promise<readonly Round[]> {
  const calls = once ? 50 : count === 1 ? 800 : 2400
  const plain = await prepare(count, shape)
  const wrapped = await prepare(count, shape, url)
  const log = await appender(url)
  const results: Round[] = []
  for (let round = 0; round <= rounds; round += 1) {
    const first = await load([plain.server], plain.clients, calls)
    const second = await load([wrapped.server], wrapped.clients, calls)
    const append = await log.measure(once ? 10 : 200)
    if (round > 0) results.push({ plain: first, wrapped: second, append })
  }
  for (const each of [plain, wrapped, log]) await each.stop()
  return results
}

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

/** What the store alone takes for the least that a call has to wait for. */
async function appender(url: string) {
  const store = openStore(url)
  await store.ready()
  const payload = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    result: { content: [{ type: 'text', text: 'call 1' }] },
  })
  let streams = 0
  const measure = async (count: number) => {
    const times: number[] = []
    for (let i = 0; i < count; i += 1) {
      streams += 1
      const events = [{ streamId: `stream-${streams}`, kind: 'final', payload } as const]
      const from = performance.now()
      await store.log.append({ sessionId: 'one-append', events, ttl: 60_000 })
      times.push(performance.now() - from)
    }
    return median(times)
  }
  return { measure, stop: () => store.close() }
}
