// What sessions cost that are open and that nobody uses: memory for each session and each standalone stream, beside the
// same app unwrapped; what a node does in a minute with them and without; and what stored sessions cost that no node holds.
// `sessions.ts [--once] [--store redis|postgres|sqlite] [--sessions 10000] [--stored 100000] [--seconds 60]`
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { openStore } from 'mcp-persist'
import { Crowd, openFiles } from './support/crowd.ts'
import { atOnce } from './support/form.ts'
import { ask, cpuOf, type Server, startServer, stopServer } from './support/load.ts'
import { backendsBy, sharedStore } from './support/shared-store.ts'
import { formatTable, ratio } from './support/table.ts'

const { values } = parseArgs({
  options: {
    once: { type: 'boolean' },
    store: { type: 'string', default: 'redis' },
    sessions: { type: 'string' },
    stored: { type: 'string' },
    seconds: { type: 'string' },
  },
})
const once = values.once === true
const size = Number(values.sessions ?? (once ? 150 : 10_000))
const storedSize = Number(values.stored ?? (once ? 1000 : 100_000))
const seconds = Number(values.seconds ?? (once ? 0.5 : 60))
const files = openFiles()
const [backend] = backendsBy(values.store)
if (files !== undefined && files < size + 500) {
  console.error(
    `${size} streams need as many open files; the limit is ${files}. Raise it (ulimit -n), or lower --sessions.`,
  )
  process.exit(2)
}

/** Bytes. */
interface Memory {
  readonly heap: number
  readonly rss: number
}

/** What all nodes together did in a minute. */
interface Work {
  /** Processor time in ms. */
  readonly cpu: number
  readonly operations: Readonly<Record<string, number>>
}

const store = await sharedStore(backend!)
const [cpu] = cpus()
console.log(`${cpus().length} cores (${cpu?.model}), node ${process.version}, ${store.title}`)
console.log(`${size} sessions; open files: ${files ?? 'unknown'}, ttl 600 s, windows of ${seconds} s`)
const plain = await crowd(1)
const wrapped = await crowd(3, store.url)
const held = await stored()
await store.close()

const each = (of: (result: Crowded) => number) => {
  const [ours, theirs] = [of(wrapped), of(plain)]
  return [kib(theirs), kib(ours), ratio(ours / theirs)]
}
const rows = [
  ['heap of a session', ...each(({ memory: [empty, open] }) => (open.heap - empty.heap) / size)],
  ['rss of a session', ...each(({ memory: [empty, open] }) => (open.rss - empty.rss) / size)],
  ['heap of a stream', ...each(({ memory: [, open, listening] }) => (listening.heap - open.heap) / size)],
  ['rss of a stream', ...each(({ memory: [, open, listening] }) => (listening.rss - open.rss) / size)],
]
console.log(`\n${formatTable({ head: ['KiB', 'unwrapped, 1 node', 'wrapped, 3 nodes', 'ratio'], rows })}`)

const works: [string, Work][] = [
  ['unwrapped, no session', plain.work[0]],
  [`unwrapped, ${size} sessions`, plain.work[1]],
  [`unwrapped, ${size} streams`, plain.work[2]],
  ['3 nodes, no session', wrapped.work[0]],
  [`3 nodes, ${size} sessions`, wrapped.work[1]],
  [`3 nodes, ${size} streams`, wrapped.work[2]],
  ['1 node, nothing stored', held.before.work],
  [`1 node, ${storedSize} stored`, held.after.work],
]
const total = (operations: Work['operations']) =>
  Object.entries(operations).reduce(
    (sum, [what, count]) => sum + (what === 'sessions touched' ? 0 : count),
    0,
  )
const head = ['in a minute', 'cpu ms', 'store operations', 'sessions touched']
const workRows = works.map(([what, { cpu, operations }]) => [
  what,
  cpu.toFixed(0),
  total(operations).toFixed(0),
  (operations['sessions touched'] ?? 0).toFixed(0),
])
console.log(`\n${formatTable({ head, rows: workRows })}`)
for (const [what, { operations }] of works) {
  const counts = Object.entries(operations).filter(([, count]) => count > 0)
  if (counts.length > 0) {
    console.log(`${what}: ${counts.map(([name, count]) => `${name} ${count.toFixed(0)}`).join(', ')}`)
  }
}

const [before, after] = [held.before.memory, held.after.memory]
const memoryRows = [
  ['heap', mib(before.heap), mib(after.heap), mib(after.heap - before.heap)],
  ['rss', mib(before.rss), mib(after.rss), mib(after.rss - before.rss)],
]
console.log(
  `\n${formatTable({ head: ['MiB of a node', 'nothing stored', `${storedSize} stored`, 'growth'], rows: memoryRows })}`,
)
console.log('\nEvery session asked answered, and no stream was lost.')

interface Crowded {
  /** Without sessions, with them, and with their streams. */
  readonly memory: readonly [Memory, Memory, Memory]
  readonly work: readonly [Work, Work, Work]
}

async function crowd(nodes: number, url = ''): Promise<Crowded> {
  const servers = await Promise.all(
    Array.from({ length: nodes }, () => startServer('factory', url, 'counted')),
  )
  const ports = servers.map(({ port }) => port)
  await warm(ports)
  const sessions = new Crowd(ports)
  const step = async (what: string, change: () => Promise<void>) => {
    if (!once) console.error(`${nodes === 1 ? 'unwrapped' : 'wrapped'}: ${what} …`)
    await change()
    return observe(servers)
  }
  const empty = await step('no session', async () => {})
  const open = await step('sessions', async () => {
    await sessions.open(size)
    sessions.rest()
  })
  const listening = await step('streams', () => sessions.listen())
  await sessions.check(100)
  sessions.close()
  await Promise.all(servers.map(stopServer))
  return {
    memory: [empty.memory, open.memory, listening.memory],
    work: [empty.work, open.work, listening.work],
  }
}

/** One node, before and after somebody has stored sessions that no node holds. */
async function stored() {
  const server = await startServer('factory', store.url, 'counted')
  await warm([server.port])
  const before = await observe([server])
  const own = openStore(store.url)
  if (!once) console.error(`${storedSize} sessions are stored …`)
  const initialize = JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'initialize', params: {} })
  const state = { initialize, initialized: true, protocolVersion: '2025-11-25' }
  const ids = Array.from({ length: storedSize }, (_, i) => `stored-${i}`)
  const create = (id: string) =>
    own.sessions.create({ id, principal: null, state, owner: 'gone', ttl: 3_600_000 })
  await atOnce(128, ids, create)
  const after = await observe([server])
  await own.close()
  await stopServer(server)
  return { before, after }
}

/** Everything is loaded and compiled, and each node has joined. */
async function warm(ports: readonly number[]): Promise<void> {
  const few = new Crowd(ports)
  await few.open(once ? 6 : 60)
  await few.listen()
  await few.check(60)
  few.close()
}

/** Memory after a collection, then what the nodes do when left alone. */
async function observe(servers: readonly Server[]): Promise<{ memory: Memory; work: Work }> {
  // What was just asked of them may still be told to the store.
  await sleep(once ? 200 : 2000)
  const all = await Promise.all(servers.map((server) => ask<NodeJS.MemoryUsage>(server, 'memory')))
  const sum = (of: (usage: NodeJS.MemoryUsage) => number) =>
    all.reduce((total, usage) => total + of(usage), 0)
  const memory = { heap: sum(({ heapUsed, external }) => heapUsed + external), rss: sum(({ rss }) => rss) }
  const before = await doneBy(servers)
  await sleep(seconds * 1000)
  const after = await doneBy(servers)
  const perMinute = 60 / seconds
  const operations = Object.fromEntries(
    Object.entries(after.counts).map(([name, count]) => [
      name,
      (count - (before.counts[name] ?? 0)) * perMinute,
    ]),
  )
  return { memory, work: { cpu: (after.cpu - before.cpu) * perMinute, operations } }
}

async function doneBy(servers: readonly Server[]) {
  const counts: Record<string, number> = {}
  let total = 0
  for (const server of servers) {
    total += await cpuOf(server)
    for (const [name, count] of Object.entries(await ask<Record<string, number>>(server, 'counts'))) {
      counts[name] = (counts[name] ?? 0) + count
    }
  }
  return { cpu: total, counts }
}

function kib(bytes: number): string {
  return (bytes / 1024).toFixed(1)
}

function mib(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1)
}
