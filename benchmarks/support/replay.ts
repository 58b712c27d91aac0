import { fill } from './append.ts'
import { FORMS, type Form, type Forms, type Setting } from './form.ts'
import { median } from './load.ts'
import { ms, ratio, type Table } from './table.ts'

export interface ReplaySize {
  readonly rounds: number
  readonly events: readonly number[]
}

type Times = Record<keyof Forms, number>

/** All events of one stream, from the first to the last. */
export function replay(setting: Setting, size: ReplaySize): Promise<Table> {
  return compare(setting, size, 'replay', async (form, session, events) => {
    const { payloads } = await form.read(session, '')
    if (payloads.length !== events || new Set(payloads).size !== events) {
      throw new Error(`lost or doubled in ${session}: ${events} stored, ${payloads.length} read`)
    }
  })
}

/** Until there is a first event to send. */
export function first(setting: Setting, size: ReplaySize): Promise<Table> {
  return compare(setting, size, 'first event', async (form, session) => {
    if ((await form.first(session, '')) === undefined) throw new Error(`nothing to replay in ${session}`)
  })
}

async function compare(
  setting: Setting,
  { rounds, events }: ReplaySize,
  what: string,
  run: (form: Form, session: string, events: number) => Promise<void>,
): Promise<Table> {
  const rows: string[][] = []
  for (const count of events) {
    const session = `${what}-${count}`
    for (const form of FORMS) await (await fill(setting.forms[form], session, count)).check()
    const results: Times[] = []
    for (let round = 0; round <= rounds; round += 1) {
      const times = {} as Times
      for (const form of FORMS) {
        const started = performance.now()
        await run(setting.forms[form], session, count)
        times[form] = performance.now() - started
      }
      // The first round warms all three up.
      if (round > 0) results.push(times)
    }
    const of = (pick: (times: Times) => number) => median(results.map(pick))
    rows.push([
      setting.backend,
      count.toLocaleString('en'),
      ...FORMS.map((form) => ms(of((times) => times[form]))),
      ratio(of(({ ours, floor }) => ours / floor)),
      ratio(of(({ ours, naive }) => ours / naive)),
    ])
  }
  return { head: [what, 'events', 'ms', 'floor ms', 'naive ms', 'of floor', 'of naive'], rows }
}
