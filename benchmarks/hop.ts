// A tool call on two nodes, each request to the other one, beside the same app on one node, wrapped and unwrapped: the
// forms take turns round by round. Exits with 1 when an answer is lost, doubled or not that of its call.
// `hop.ts [--once] [--store redis|postgres|sqlite]`
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import {
  ask,
  type Figures,
  LoadClient,
  load,
  median,
  type Server,
  startServer,
  stopServer,
  took,
} from './support/load.ts'
import { backendsBy, type SharedStore, sharedStore } from './support/shared-store.ts'
import { divide, operations, type Shares, type Span } from './support/spans.ts'
import { formatTable, ms, ratio } from './support/table.ts'

const { values } = parseArgs({ options: { once: { type: 'boolean' }, store: { type: 'string' } } })
const once = values.once === true
const rounds = once ? 1 : 7
const backends = backendsBy(values.store)

/** The same app: unwrapped with the SDK's event store in memory; wrapped, on one node and on two. */
const FORMS = ['plain', 'one', 'two'] as const
type Forms<T> = Record<(typeof FORMS)[number], T>

const latency: string[][] = []
const throughput: string[][] = []
const shares: string[][] = []
const details: string[] = []
const titles: string[] = []
for (const backend of backends) {
  const store = await sharedStore(backend)
  titles.push(store.title)
  if (!once) console.error(`${store.title} …`)
  latency.push([backend, ...latencyRow(await measure(store, 1, once ? 50 : 1000))])
  for (const clients of once ? [16] : [16, 64]) {
    const results = await measure(store, clients, once ? 100 : 3000)
    throughput.push([`${backend}, ${clients} clients`, ...throughputRow(results)])
  }
  const { share, counts } = await divided(store, once ? 50 : 1000)
  const whole = share.app + share.store + share.messages + share.rest
  const part = (value: number) => `${ms(value)} (${((value / whole) * 100).toFixed(0)} %)`
  shares.push([
    backend,
    ms(whole),
    part(share.app),
    part(share.store),
    part(share.messages),
    part(share.rest),
  ])
  const each = [...counts].filter(([, count]) => count >= 0.05)
  details.push(`${backend}: ${each.map(([what, count]) => `${what} ${count.toFixed(1)}`).join(', ')}`)
  await store.close()
}

const [cpu] = cpus()
console.log(`${cpus().length} cores (${cpu?.model}), node ${process.version}; ${titles.join('; ')}`)
console.log(`A factory, medians of ${rounds} rounds. Every answer was that of its call, once.`)
console.log(
  `\n${formatTable({
    head: [
      '1 client, ms',
      'unwrapped p50',
      'one node',
      'two nodes',
      'forwarded',
      'added',
      'p99',
      'forwarded',
    ],
    rows: latency,
  })}`,
)
console.log(
  `\n${formatTable({
    head: ['calls/s', 'unwrapped', 'one node', 'two nodes', 'two/one', 'two/unwrapped', 'cpu ms one', 'two'],
    rows: throughput,
  })}`,
)
console.log(
  `\n${formatTable({ head: ['forwarded call', 'ms', 'app', 'store', 'messages', 'rest'], rows: shares })}`,
)
console.log(`\nOperations on the store for a forwarded call, both nodes together:\n${details.join('\n')}`)

function latencyRow(results: readonly Forms<Figures>[]): string[] {
  const of = (pick: (figures: Forms<Figures>) => number) => median(results.map(pick))
  const forwarded = ({ two }: Forms<Figures>, share: number) =>
    took(
      two.calls.filter((call) => call.forwarded),
      share,
    )
  const added = of((round) => forwarded(round, 0.5) - round.plain.p50)
  return [
    ...FORMS.map((form) => ms(of((round) => round[form].p50))),
    ms(of((round) => forwarded(round, 0.5))),
    `+${ms(added)}`,
    ms(of(({ plain }) => plain.p99)),
    ms(of((round) => forwarded(round, 0.99))),
  ]
}

function throughputRow(results: readonly Forms<Figures>[]): string[] {
  const of = (pick: (figures: Forms<Figures>) => number) => median(results.map(pick))
  return [
    ...FORMS.map((form) => of((round) => round[form].throughput).toFixed(0)),
    ratio(of(({ one, two }) => two.throughput / one.throughput)),
    ratio(of(({ plain, two }) => two.throughput / plain.throughput)),
    ms(of(({ one }) => one.cpu)),
    ms(of(({ two }) => two.cpu)),
  ]
}

/** Rounds alternate between the forms, so that a change in the machine's speed meets all of them. */
async function measure({ url }: SharedStore, clients: number, calls: number): Promise<Forms<Figures>[]> {
  const [plain, one, two] = await Promise.all([
    prepare(clients, 1, ''),
    prepare(clients, 1, url),
    prepare(clients, 2, url),
  ])
  const forms: Forms<Prepared> = { plain, one, two }
  const results: Forms<Figures>[] = []
  for (let round = 0; round <= rounds; round += 1) {
    const figures = {} as Forms<Figures>
    for (const form of FORMS) figures[form] = await load(forms[form].servers, forms[form].clients, calls)
    // The first round warms all of them up.
    if (round > 0) results.push(figures)
  }
  for (const form of FORMS) await forms[form].stop()
  return results
}

/** On nodes of their own: looking on takes time too. */
async function divided(
  { url }: SharedStore,
  calls: number,
): Promise<{ share: Shares; counts: Map<string, number> }> {
  const two = await prepare(1, 2, url, 'timed')
  await load(two.servers, two.clients, calls / 5)
  const spans = async () => Promise.all(two.servers.map((server) => ask<Span[]>(server, 'spans')))
  await spans()
  const figures = await load(two.servers, two.clients, calls)
  const noted = await spans()
  await two.stop()
  const forwarded = figures.calls.filter((call) => call.forwarded)
  return { share: divide(forwarded, noted), counts: operations(forwarded, noted) }
}

interface Prepared {
  readonly servers: readonly Server[]
  readonly clients: readonly LoadClient[]
  stop(): Promise<void>
}

/** Sessions are spread over the nodes; a client sends each request to the next one. */
async function prepare(count: number, nodes: number, ...args: string[]): Promise<Prepared> {
  const servers = await Promise.all(Array.from({ length: nodes }, () => startServer('factory', ...args)))
  const ports = servers.map(({ port }) => port)
  const clients = Array.from({ length: count }, (_, i) => {
    const first = i % nodes
    return new LoadClient(...ports.slice(first), ...ports.slice(0, first))
  })
  for (const client of clients) await client.open()
  const stop = async () => {
    for (const client of clients) client.close()
    await Promise.all(servers.map(stopServer))
  }
  return { servers, clients, stop }
}
