import { setImmediate as turn } from 'node:timers/promises'
import { atOnce, FORMS, type Forms, Ledger, message, type Setting, until } from './form.ts'
import { ms, ratio, type Table } from './table.ts'

export interface SweepSize {
  readonly events: number
  /** Appends that are timed before the sweep. */
  readonly appends: number
}

const EVENTS_A_SESSION = 100
/** Rows of one step of the sweep. */
const STEP = 1000
const LIVE = 50
const HEAD = [
  'sweep',
  '',
  'events',
  'rows/s',
  'of floor',
  'append p50/p99 ms before',
  'during',
  'longest',
  'p50 during/before',
]

/** How fast, and what it does to appends that go through the store meanwhile. */
interface Result {
  readonly rowsPerSecond: number
  readonly before: readonly number[]
  readonly during: readonly number[]
}

/** Sessions that expired with all their events are swept, while others go on; then the same without the store's help. */
export async function sweep(setting: Setting, size: SweepSize): Promise<Table> {
  const live = Array.from({ length: LIVE }, (_, i) => `live-${i}`)
  const ledger = new Ledger(setting.forms.ours)
  await setting.forms.ours.open?.(live)
  for (const session of live) await ledger.append(session)

  const results = { ours: await sweepOurs(setting, size, ledger, live) } as Record<keyof Forms, Result>
  for (const form of ['floor', 'naive'] as const) {
    const { fill, run } = setting.sweeps[form]
    await fill(size.events, EVENTS_A_SESSION)
    results[form] = await whileAppending(size, ledger, live, async () => {
      const gone = await run(STEP)
      if (gone !== size.events) throw new Error(`${form}: ${gone} of ${size.events} events deleted`)
    })
  }
  const rows = FORMS.map((form) => {
    const { rowsPerSecond, before, during } = results[form]
    const [calm, busy] = [percentiles(before), percentiles(during)]
    // Redis removes expired keys in its own time, which the store does not shorten.
    const expires = setting.backend === 'redis' && form === 'ours'
    return [
      setting.backend,
      form,
      size.events.toLocaleString('en'),
      expires ? 'by expiry' : Math.round(rowsPerSecond).toLocaleString('en'),
      expires ? '' : ratio(rowsPerSecond / results.floor.rowsPerSecond),
      `${ms(calm.p50)} / ${ms(calm.p99)}`,
      `${ms(busy.p50)} / ${ms(busy.p99)}`,
      ms(busy.max),
      ratio(busy.p50 / calm.p50),
    ]
  })
  return { head: HEAD, rows }
}

async function sweepOurs(
  setting: Setting,
  size: SweepSize,
  ledger: Ledger,
  live: readonly string[],
): Promise<Result> {
  const { store } = setting
  const already = (await store.stats()).events
  const base = await setting.left()
  const dead = await expire(setting, size.events)
  let [events, sessions] = [0, 0]
  const result = await whileAppending(size, ledger, live, async () => {
    for (let more = true; more; ) {
      const step = await store.sweep({ limit: STEP })
      events += step.events
      sessions += step.sessions
      more = step.more
    }
    await until('expired keys to go', 300, async () => (await setting.left()) <= base)
  })
  const left = (await store.stats()).events
  const kept = already + result.before.length + result.during.length
  // Redis removes the events with their keys and counts none.
  const swept = setting.backend === 'redis' ? size.events : events
  if (left !== kept || swept !== size.events || sessions !== dead) {
    const facts = `${swept} of ${size.events} events and ${sessions} of ${dead} sessions swept`
    throw new Error(`the sweep took too much or too little: ${facts}, ${left} of ${kept} live events left`)
  }
  return result
}

/** One append after the other, first alone and then until the work is done. */
async function whileAppending(
  size: SweepSize,
  ledger: Ledger,
  live: readonly string[],
  work: () => Promise<void>,
): Promise<Result> {
  const before: number[] = []
  while (before.length < size.appends) before.push(await timed(ledger, live, before.length))

  const during: number[] = []
  let over = false
  const appending = (async () => {
    while (!over) {
      during.push(await timed(ledger, live, during.length))
      await turn()
    }
  })()
  const started = performance.now()
  await work().finally(() => {
    over = true
  })
  const seconds = (performance.now() - started) / 1000
  await appending
  await ledger.check()
  return { rowsPerSecond: size.events / seconds, before, during }
}

/** Stores sessions that have all expired when this resolves; how many. */
async function expire({ store }: Setting, events: number): Promise<number> {
  // They expire together, at a time that is past only when all are stored.
  const deadline = Date.now() + Math.max(1500, events / 15)
  const ids = Array.from({ length: events / EVENTS_A_SESSION }, (_, i) => `dead-${i}`)
  const state = { initialize: '{}', initialized: true, protocolVersion: '2025-11-25' }
  let latest = 0
  await atOnce(16, ids, async (id) => {
    const ttl = Math.max(1000, deadline - Date.now())
    latest = Math.max(latest, Date.now() + ttl)
    const generation = await store.sessions.create({ id, principal: null, state, owner: 'bench', ttl })
    const batch = Array.from({ length: EVENTS_A_SESSION }, () => ({
      streamId: 'stream',
      kind: 'message' as const,
      payload: message(),
    }))
    await store.log.append({ sessionId: id, generation, ttl, events: batch })
  })
  // A store may let a session live for a tenth longer than it was asked to.
  const spared = (latest - Date.now()) * 1.2 + 10_000
  for (const id of [ids[0]!, ids.at(-1)!, ...ids.slice(-16)]) {
    await until(`session ${id} to expire`, spared / 1000, async () => !(await store.sessions.get(id)))
  }
  return ids.length
}

async function timed(ledger: Ledger, sessions: readonly string[], turn: number): Promise<number> {
  const started = performance.now()
  await ledger.append(sessions[turn % sessions.length]!)
  return performance.now() - started
}

function percentiles(times: readonly number[]) {
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1)! }
}
