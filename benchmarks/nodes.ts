// How cost grows with the number of nodes: 1, 2, 5, 10 and 20 processes behind a strict round robin, idle and called. The cost of a
// call at N nodes is predicted from those at one and at two, and the prediction stands beside what was measured.
// Exits with 1 when an answer is lost, doubled or not that of its call.
// `nodes.ts [--once] [--store redis|postgres|sqlite] [--nodes 1,2,5,10,20]`
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { ask, cpuOf, LoadClient, load, type Server, startServer, stopServer } from './support/load.ts'
import { backendsBy, sharedStore } from './support/shared-store.ts'
import { formatTable, ms, ratio } from './support/table.ts'

const { values } = parseArgs({
  options: {
    once: { type: 'boolean' },
    store: { type: 'string' },
    nodes: { type: 'string', default: '1,2,5,10,20' },
  },
})
const once = values.once === true
const sizes = once ? [1, 2, 3] : values.nodes.split(',').map(Number)
/** Each has a session of its own. */
const CLIENTS = 40
const calls = once ? 80 : 4000
/** Seconds that the nodes are left alone. */
const idle = once ? 0.5 : 15

/** For one call, over all nodes. */
interface Cost {
  readonly cpu: number
  readonly operations: number
}

interface Point {
  readonly call: Cost
  readonly throughput: number
  /** Of one node that is left alone, in a minute. */
  readonly idle: Cost
}

const rows: string[][] = []
const titles: string[] = []
for (const backend of backendsBy(values.store)) {
  const store = await sharedStore(backend)
  titles.push(store.title)
  const points = new Map<number, Point>()
  for (const size of sizes) {
    if (!once) console.error(`${backend}, ${size} nodes …`)
    points.set(size, await measure(store.url, size))
  }
  const [one, two] = [points.get(1)?.call, points.get(2)?.call]
  for (const [size, { call, throughput, idle: alone }] of points) {
    const expected = one && two ? predicted(one, two, size) : undefined
    rows.push([
      `${backend}, ${size} ${size === 1 ? 'node' : 'nodes'}`,
      throughput.toFixed(0),
      ms(call.cpu),
      expected ? ms(expected.cpu) : '',
      expected ? ratio(call.cpu / expected.cpu) : '',
      call.operations.toFixed(1),
      expected ? expected.operations.toFixed(1) : '',
      alone.cpu.toFixed(0),
      alone.operations.toFixed(0),
    ])
  }
  await store.close()
}
const [cpu] = cpus()
console.log(`${cpus().length} cores (${cpu?.model}), node ${process.version}; ${titles.join('; ')}`)
console.log(
  `A factory, ${CLIENTS} clients, each request at the next node. Every answer was that of its call, once.`,
)
const head = [
  'nodes',
  'calls/s',
  'cpu ms',
  'model',
  'ratio',
  'operations',
  'model',
  'idle: cpu ms/min',
  'operations/min',
]
console.log(`\n${formatTable({ head, rows })}`)

/**
 * Of N requests in turn one comes to the owner of its session, and all others are forwarded. Two nodes forward one of two, and so tell
 * what a forwarded call costs.
 */
function predicted(one: Cost, two: Cost, size: number): Cost {
  const at = (own: number, half: number) => own + (1 - 1 / size) * 2 * (half - own)
  return { cpu: at(one.cpu, two.cpu), operations: at(one.operations, two.operations) }
}

async function measure(url: string, size: number): Promise<Point> {
  const servers: Server[] = []
  // One after the other: so many at once would time out on a small machine.
  for (let i = 0; i < size; i += 1) servers.push(await startServer('factory', url, 'counted'))
  const ports = servers.map(({ port }) => port)
  const clients = Array.from({ length: CLIENTS }, (_, i) => {
    const first = i % size
    return new LoadClient(...ports.slice(first), ...ports.slice(0, first))
  })
  for (const client of clients) await client.open()
  // All nodes have met, and what they run is compiled.
  await load(servers, clients, once ? 80 : 200 * size + 1000)
  const before = await doneBy(servers)
  const figures = await load(servers, clients, calls)
  const after = await doneBy(servers)
  for (const client of clients) client.close()
  await sleep(once ? 200 : 3000)
  const resting = await doneBy(servers)
  await sleep(idle * 1000)
  const rested = await doneBy(servers)
  await Promise.all(servers.map(stopServer))
  const share = 60 / idle / size
  return {
    throughput: figures.throughput,
    call: { cpu: figures.cpu, operations: (after.operations - before.operations) / calls },
    idle: {
      cpu: (rested.cpu - resting.cpu) * share,
      operations: (rested.operations - resting.operations) * share,
    },
  }
}

async function doneBy(servers: readonly Server[]): Promise<Cost> {
  let [used, operations] = [0, 0]
  for (const server of servers) {
    used += await cpuOf(server)
    const counts = await ask<Record<string, number>>(server, 'counts')
    for (const [what, count] of Object.entries(counts)) if (what !== 'sessions touched') operations += count
  }
  return { cpu: used, operations }
}
