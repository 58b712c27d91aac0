// Three nodes behind a strict round robin, many clients of both SDK lines that call, answer questions and listen, and
// nodes that are restarted one after the other all the time. Exits with 1 when a client noticed anything, or a drain took
// more than `--spare` ms beyond the longest call that ran meanwhile.
// `npm run soak -- [--minutes 5] [--store sqlite|redis|postgres] [--clients 200] [--busy 3] [--restart 10] [--kills] [--think 1000] [--spare 1000]`
// `--busy`: so many of the clients never pause; `--restart`: seconds from one restart to the next, 0 for none; `--kills`:
// every second one is a SIGKILL; `--think`: mean ms that the other clients pause.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { backendsBy, sharedStore } from '../../benchmarks/support/shared-store.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { bundlePrograms } from '../support/programs.ts'
import { Ends } from './ends.ts'
import { SoakClient } from './soak-client.ts'
import { type Holds, SoakNode } from './soak-node.ts'

// Milliseconds after a kill in which its clients may still hear of it.
const A_MOMENT = 3000

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    store: { type: 'string', default: 'redis' },
    clients: { type: 'string', default: '200' },
    busy: { type: 'string', default: '3' },
    restart: { type: 'string', default: '10' },
    think: { type: 'string', default: '1000' },
    spare: { type: 'string', default: '1000' },
    kills: { type: 'boolean', default: false },
  },
})
const { kills } = values
const [minutes, count, busy, every, think, spare] = [
  values.minutes,
  values.clients,
  values.busy,
  values.restart,
  values.think,
  values.spare,
].map(Number) as [number, number, number, number, number, number]
const [backend] = backendsBy(values.store)

const started = performance.now()
const wrong = new Map<string, number>()
let wrongs = 0
function onWrong(what: string): void {
  wrongs += 1
  // The same thing happens to many: numbers and ids are left out.
  const kind = what.replace(/[0-9a-f-]{36}|(?<!status )\b\d+|(?<=\bc|-)\d+/g, 'N')
  if (!wrong.has(kind)) console.log(`${seconds()} WRONG ${what}`)
  wrong.set(kind, (wrong.get(kind) ?? 0) + 1)
}

await bundlePrograms()
const store = await sharedStore(backend!)
const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-soak-'))
const nodes = await Promise.all(
  ['factory', 'factory', 'factory'].map((shape) => SoakNode.start(shape, store.url, folder)),
)
const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
const ends = new Ends(spare, onWrong)
let lastKill = Number.NEGATIVE_INFINITY
const justKilled = () => performance.now() - lastKill < A_MOMENT
const complaints: string[] = []
const held: Holds[] = []
try {
  console.log(
    `${store.title}, node ${process.version}: ${count} clients, ${minutes} min, a restart every ${every} s`,
  )
  const clients: SoakClient[] = []
  for (let i = 0; i < count; i += 1) {
    const sdk = i % 2 === 0 ? 'v1' : 'v2'
    const how = { think, busy: i < busy, kills, justKilled, onWrong }
    clients.push(await SoakClient.connect({ sdk, url: `${proxy.origin}/mcp`, name: `c${i}`, ...how }))
  }
  console.log(`${seconds()} all clients are connected`)
  const until = performance.now() + minutes * 60_000
  const over = () => performance.now() > until
  await Promise.all([...clients.map((client) => client.run(over)), disturb(over), watch(over)])
  console.log(`${seconds()} the last lines are awaited`)
  await Promise.all(clients.map((client) => client.finish()))
  for (const end of await Promise.all(nodes.map((node) => node.end('SIGKILL')))) ends.look(end)
  report(clients)
} finally {
  await proxy.close()
  await Promise.all(nodes.map((node) => node.end('SIGKILL')))
  await rm(folder, { recursive: true, force: true })
  await store.close()
}
process.exit(wrongs > 0 ? 1 : 0)

/** One node after the other. */
async function disturb(over: () => boolean): Promise<void> {
  if (every === 0) return
  for (let turn = 0; ; turn += 1) {
    const pause = every * 1000 * (kills ? 0.5 + Math.random() : 1)
    await sleep(pause)
    if (over()) return
    const node = nodes[turn % nodes.length]!
    held.push(await node.holds())
    const signal = kills && turn % 2 === 1 ? 'SIGKILL' : 'SIGTERM'
    complaints.push(...node.complaints)
    if (signal === 'SIGKILL') {
      lastKill = performance.now()
      ends.killed(await node.restart(signal))
    } else {
      // What runs elsewhere for its clients it waits for as well.
      const answered = proxy.callsAt(node.origin)
      const end = await node.restart(signal)
      ends.drained({ ...end, longestCall: Math.max(end.longestCall, answered()) })
    }
  }
}

/** Without restarts somebody has to look from time to time. */
async function watch(over: () => boolean): Promise<void> {
  while (every === 0 && !over()) {
    for (const node of nodes) held.push(await node.holds())
    await sleep(5000)
  }
}

function report(clients: readonly SoakClient[]): void {
  const answered: Record<string, number> = {}
  let [interrupted, resumed, longestWait] = [0, 0, 0]
  for (const client of clients) {
    for (const [tool, calls] of Object.entries(client.answered))
      answered[tool] = (answered[tool] ?? 0) + calls
    interrupted += client.interrupted
    resumed += client.resumed
    longestWait = Math.max(longestWait, client.longestWait)
  }
  const total = Object.values(answered).reduce((sum, calls) => sum + calls, 0)
  const each = Object.entries(answered).map(([tool, calls]) => `${tool} ${calls}`)
  console.log(`${seconds()} ${total} calls had the right answer: ${each.join(', ')}`)
  console.log(
    `interrupted by kills: ${interrupted}; streams resumed: ${resumed}; the longest call took its client ${longestWait.toFixed(0)} ms`,
  )
  for (const line of ends.report()) console.log(line)
  grows('heap of a node, MiB', (holds) => holds.heap / 1024 / 1024, 8)
  grows('handles of a node', (holds) => holds.handles, 40)
  const said = new Map<string, number>()
  for (const line of [...complaints, ...nodes.flatMap((node) => node.complaints)]) {
    const kind = line
      .replace(/^\S+T\S+Z /, '')
      .slice(0, 160)
      .replace(/[\w-]{12,}|\d+/g, 'N')
    said.set(kind, (said.get(kind) ?? 0) + 1)
  }
  for (const [kind, times] of [...said].sort(([, a], [, b]) => b - a).slice(0, 10)) {
    console.log(`the nodes said ${times} times: ${kind}`)
  }
  for (const [kind, times] of wrong) console.log(`WRONG ${times} times: ${kind}`)
  console.log(wrongs === 0 ? 'No client noticed anything.' : `${wrongs} things went wrong.`)
}

/**
 * The last third of the run beside the first: what is held may not grow by more than a quarter and `slack`. The first
 * cycle is left out: streams gather at the node that has been up for longest.
 */
function grows(what: string, of: (holds: Holds) => number, slack: number): void {
  const steady = held.slice(nodes.length)
  const third = Math.floor(steady.length / 3)
  if (third === 0) return
  const median = (some: readonly Holds[]) => some.map(of).sort((a, b) => a - b)[Math.floor(some.length / 2)]!
  const [first, last] = [median(steady.slice(0, third)), median(steady.slice(-third))]
  console.log(`${what}: ${first.toFixed(1)} in the first third of the run, ${last.toFixed(1)} in the last`)
  if (last > first * 1.25 + slack) onWrong(`${what} grew from ${first.toFixed(1)} to ${last.toFixed(1)}`)
}

function seconds(): string {
  return `${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s`
}
