import { FORMS, Ledger, type Setting } from './form.ts'
import { ratio, type Table } from './table.ts'

export interface BytesSize {
  readonly events: number
  readonly perSession: readonly number[]
}

/** What the events of 300 bytes take, logs and indexes included, session records not. */
export async function bytes(setting: Setting, { events, perSession }: BytesSize): Promise<Table> {
  const rows: string[][] = []
  for (const each of perSession) {
    const sizes: number[] = []
    for (const name of FORMS) {
      // A log alone: the size of session records is not taken for that of events.
      const form = name === 'ours' ? setting.logs : setting.forms[name]
      const before = await form.bytes()
      const ledger = new Ledger(form)
      // As they come in life: the sessions mixed, a few events of each at a time.
      const sessions = Array.from({ length: Math.ceil(events / each) }, (_, i) => `bytes-${each}-${i}`)
      for (let round = 0; round < each; round += 1) {
        for (let at = 0; at < sessions.length; at += 64) {
          await Promise.all(sessions.slice(at, at + 64).map((session) => ledger.append(session)))
        }
      }
      sizes.push(((await form.bytes()) - before) / (each * sessions.length))
      await ledger.check()
    }
    const [ours, floor, naive] = sizes as [number, number, number]
    rows.push([
      setting.backend,
      `${each}`,
      ...sizes.map((size) => size.toFixed(0)),
      ratio(ours / floor),
      ratio(ours / naive),
    ])
  }
  const head = ['bytes', 'events a session', 'per event', 'floor', 'naive', 'of floor', 'of naive']
  return { head, rows }
}
