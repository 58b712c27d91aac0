import { type EventKind, FORMS, type Form, type Forms, Ledger, message, type Setting } from './form.ts'
import { median } from './load.ts'
import { rate, ratio, type Table } from './table.ts'

export interface AppendSize {
  readonly sessions: number
  readonly rounds: number
  /** Events of one round, by how many are under way at once. */
  readonly events: Readonly<Record<1 | 32 | 256, number>>
}

type Rates = Record<keyof Forms, number>

type Step = readonly EventKind[]

/**
 * What the engine stores of a call, step by step. Of eight calls six are quick: their record waits for the answer. One
 * says something before it answers, and one is cancelled.
 */
const QUICK: readonly Step[] = [['open', 'final']]
const CALLS: readonly (readonly Step[])[] = [
  ...[QUICK, QUICK, QUICK],
  [['open', 'message'], ['message'], ['final']],
  ...[QUICK, QUICK, QUICK],
  [['open'], ['message'], ['end']],
]

/** What is appended: events of one stream that never ends, or whole calls, each a stream of its own. */
const WORKLOADS = { messages: [[['message']]], calls: CALLS } as const

/** Rounds alternate between the three forms, so that a change in the machine's speed meets them all. */
export async function append(setting: Setting, size: AppendSize): Promise<Table> {
  const sessions = Array.from({ length: size.sessions }, (_, i) => `append-${i}`)
  const ledgers = {
    ours: new Ledger(setting.forms.ours),
    floor: new Ledger(setting.forms.floor),
    naive: new Ledger(setting.forms.naive, { inTurn: true }),
  }
  for (const form of FORMS) await setting.forms[form].open?.(sessions)
  const rows: string[][] = []
  for (const workload of ['messages', 'calls'] as const) {
    for (const atOnce of [1, 32, 256] as const) {
      const results: Rates[] = []
      for (let round = 0; round <= size.rounds; round += 1) {
        const rates = {} as Rates
        for (const form of FORMS) {
          const work = { sessions, count: size.events[atOnce], atOnce, streams: WORKLOADS[workload] }
          rates[form] = await measure(ledgers[form], work)
          await ledgers[form].check()
        }
        // The first round warms all three up.
        if (round > 0) results.push(rates)
      }
      const of = (pick: (rates: Rates) => number) => median(results.map(pick))
      rows.push([
        `${setting.backend}, ${setting.durability}`,
        workload,
        `${atOnce}`,
        ...FORMS.map((form) => rate(of((rates) => rates[form]))),
        ratio(of(({ ours, floor }) => ours / floor)),
        ratio(of(({ ours, naive }) => ours / naive)),
      ])
    }
  }
  const head = ['append', '', 'at once', 'events/s', 'floor', 'naive', 'of floor', 'times naive']
  return { head, rows }
}

interface Work {
  readonly sessions: readonly string[]
  /** Events in all, or a few more. */
  readonly count: number
  readonly atOnce: number
  /** Taken in turn. */
  readonly streams: readonly (readonly Step[])[]
}

/** Events stored per second, all acknowledged. */
async function measure(ledger: Ledger, { sessions, count, atOnce, streams }: Work): Promise<number> {
  let [next, stored] = [0, 0]
  const started = performance.now()
  const worker = async () => {
    while (stored < count) {
      const session = sessions[next % sessions.length]!
      const steps = streams[next % streams.length]!
      next += 1
      stored += steps.flat().length
      if (streams.length === 1) await ledger.append(session)
      else await call(ledger, session, steps)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return stored / ((performance.now() - started) / 1000)
}

let calls = 0

async function call(ledger: Ledger, session: string, steps: readonly Step[]): Promise<void> {
  calls += 1
  const streamId = `call-${calls}`
  for (const step of steps) {
    const payload = (kind: EventKind) => (kind === 'end' ? '' : message())
    await ledger.step(
      session,
      step.map((kind) => ({ streamId, kind, payload: payload(kind) })),
    )
  }
}

/** Fills one session. */
export async function fill(form: Form, session: string, events: number): Promise<Ledger> {
  const ledger = new Ledger(form)
  await form.open?.([session])
  await measure(ledger, { sessions: [session], count: events, atOnce: 256, streams: WORKLOADS.messages })
  return ledger
}
