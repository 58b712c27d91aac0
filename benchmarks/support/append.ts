import { FORMS, type Form, type Forms, Ledger, type Setting } from './form.ts'
import { median } from './load.ts'
import { rate, ratio, type Table } from './table.ts'

export interface AppendSize {
  readonly sessions: number
  readonly rounds: number
  /** Events of one round, by how many are under way at once. */
  readonly events: Readonly<Record<1 | 32 | 256, number>>
}

type Rates = Record<keyof Forms, number>

/** Rounds alternate between the three forms, so that a change in the machine's speed meets them all. */
export async function append(setting: Setting, size: AppendSize): Promise<Table> {
  const sessions = Array.from({ length: size.sessions }, (_, i) => `append-${i}`)
  const ledgers = {
    ours: new Ledger(setting.forms.ours),
    floor: new Ledger(setting.forms.floor),
    naive: new Ledger(setting.forms.naive),
  }
  for (const form of FORMS) await setting.forms[form].open?.(sessions)
  const rows: string[][] = []
  for (const atOnce of [1, 32, 256] as const) {
    const results: Rates[] = []
    for (let round = 0; round <= size.rounds; round += 1) {
      const rates = {} as Rates
      for (const form of FORMS) {
        rates[form] = await measure(ledgers[form], sessions, size.events[atOnce], atOnce)
        await ledgers[form].check()
      }
      // The first round warms all three up.
      if (round > 0) results.push(rates)
    }
    const of = (pick: (rates: Rates) => number) => median(results.map(pick))
    rows.push([
      `${setting.backend}, ${setting.durability}`,
      `${atOnce}`,
      ...FORMS.map((form) => rate(of((rates) => rates[form]))),
      ratio(of(({ ours, floor }) => ours / floor)),
      ratio(of(({ ours, naive }) => ours / naive)),
    ])
  }
  const head = ['append', 'at once', 'events/s', 'floor', 'naive', 'of floor', 'times naive']
  return { head, rows }
}

/** Events stored per second, all acknowledged. */
async function measure(
  ledger: Ledger,
  sessions: readonly string[],
  count: number,
  atOnce: number,
): Promise<number> {
  let next = 0
  const started = performance.now()
  const worker = async () => {
    while (next < count) {
      const session = sessions[next % sessions.length]!
      next += 1
      await ledger.append(session)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return count / ((performance.now() - started) / 1000)
}

/** Fills one session. */
export async function fill(form: Form, session: string, events: number): Promise<Ledger> {
  const ledger = new Ledger(form)
  await form.open?.([session])
  await measure(ledger, [session], events, 256)
  return ledger
}
