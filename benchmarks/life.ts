// A session's whole life, as hosts have it that open one for every tool call: initialize, initialized, one call, DELETE.
// Wrapped and unwrapped take turns round by round. Exits with 1 when an answer is lost, doubled or not that of its call, or
// when a session that was ended is still there.
// `life.ts [--once] [--store redis|postgres|sqlite] [--shape express|hono|factory]`
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { openStore } from 'mcp-persist'
import {
  byAll,
  cpuOf,
  LoadClient,
  median,
  type Server,
  STEPS,
  type Step,
  startServer,
  stopServer,
} from './support/load.ts'
import { backendsBy, sharedStore } from './support/shared-store.ts'
import { formatTable, ms, ratio } from './support/table.ts'

const { values } = parseArgs({
  options: {
    once: { type: 'boolean' },
    store: { type: 'string' },
    shape: { type: 'string', default: 'express' },
  },
})
const once = values.once === true
const rounds = once ? 1 : 7
const backends = backendsBy(values.store)

interface Lives {
  /** Lives per second. */
  readonly throughput: number
  /** Processor time of the server for one life, in ms. */
  readonly cpu: number
  /** Medians, in ms. */
  readonly steps: Readonly<Record<Step, number>>
}

const [cpu] = cpus()
const titles: string[] = []
const throughput: string[][] = []
const latency: string[][] = []
for (const backend of backends) {
  const store = await sharedStore(backend)
  titles.push(store.title)
  for (const count of [1, 16]) {
    const lives = once ? 40 : count === 1 ? 300 : 1200
    const results = await measure(store.url, count, lives)
    const name = `${backend}, ${count} ${count === 1 ? 'client' : 'clients'}`
    const of = (pick: (lives: Lives) => number) => ({
      wrapped: median(results.map(({ wrapped }) => pick(wrapped))),
      plain: median(results.map(({ plain }) => pick(plain))),
      ratio: median(results.map(({ wrapped, plain }) => pick(wrapped) / pick(plain))),
    })
    const [rate, used] = [of((each) => each.throughput), of((each) => each.cpu)]
    throughput.push([
      name,
      `${rate.wrapped.toFixed(0)} / ${rate.plain.toFixed(0)}`,
      ratio(rate.ratio),
      `${used.wrapped.toFixed(2)} / ${used.plain.toFixed(2)}`,
      ratio(used.ratio),
    ])
    const steps = STEPS.map((step) => of((each) => each.steps[step]))
    latency.push([name, ...steps.map(({ wrapped, plain }) => `${ms(wrapped)} / ${ms(plain)}`)])
  }
  await store.close()
}
console.log(`${cpus().length} cores (${cpu?.model}), node ${process.version}; ${titles.join('; ')}`)
console.log(
  `${values.shape}, wrapped / unwrapped, medians of ${rounds} rounds. Every call had its answer, once; all sessions ended.`,
)
console.log(
  `\n${formatTable({ head: ['a whole life', 'lives/s', 'ratio', 'cpu ms', 'ratio'], rows: throughput })}`,
)
console.log(`\n${formatTable({ head: ['p50, ms', ...STEPS], rows: latency })}`)

/** The first round warms both up. */
async function measure(
  url: string,
  count: number,
  lives: number,
): Promise<{ plain: Lives; wrapped: Lives }[]> {
  const plain = await startServer(values.shape)
  const wrapped = await startServer(values.shape, url)
  const results: { plain: Lives; wrapped: Lives }[] = []
  for (let round = 0; round <= rounds; round += 1) {
    const first = await live(plain, count, lives)
    const second = await live(wrapped, count, lives)
    if (round > 0) results.push({ plain: first, wrapped: second })
  }
  await nothingLeft(url)
  await stopServer(plain)
  await stopServer(wrapped)
  return results
}

async function live(server: Server, count: number, lives: number): Promise<Lives> {
  const before = await cpuOf(server)
  const clients = Array.from({ length: count }, () => new LoadClient(server.port))
  const { done: steps, seconds } = await byAll(clients, lives, (client) => client.live())
  for (const client of clients) client.close()
  const medians = STEPS.map((step) => [step, median(steps.map((each) => each[step]))])
  return {
    throughput: steps.length / seconds,
    cpu: ((await cpuOf(server)) - before) / steps.length,
    steps: Object.fromEntries(medians) as Record<Step, number>,
  }
}

async function nothingLeft(url: string): Promise<void> {
  const store = openStore(url)
  const { sessions } = await store.sessions.list()
  await store.close()
  if (sessions.length > 0)
    throw new Error(`${sessions.length} sessions or more were ended, and are still there`)
}
