import type { Append } from '../port.ts'
import { encode } from './redis-entry.ts'

/** Appends to one session that are stored as one: consecutive, and alike in all but their events. */
export interface Unit {
  readonly append: Append
  readonly entries: string[]
  /** Which appends of the batch these are, and how many events each brought. */
  readonly parts: { readonly index: number; readonly count: number }[]
}

/** What one script call carries: no session twice, and all on the same terms, which travel once. */
export type Call = readonly Unit[]

/**
 * A batch as rounds of units. A session occurs once in a round: its next unit, for another generation say, waits for
 * the round after. Mostly there is one round.
 */
export function units(appends: readonly Append[]): Unit[][] {
  const rounds: Unit[][] = []
  const latest = new Map<string, { unit: Unit; round: number }>()
  for (const [index, append] of appends.entries()) {
    const { sessionId, events, ttl } = append
    const before = latest.get(sessionId)
    let unit = before?.unit
    if (!unit || termsOf(unit.append) !== termsOf(append)) {
      unit = { append, entries: [], parts: [] }
      const round = before ? before.round + 1 : 0
      if (rounds.length === round) rounds.push([])
      rounds[round]!.push(unit)
      latest.set(sessionId, { unit, round })
    }
    for (const event of events) unit.entries.push(encode(event, ttl))
    unit.parts.push({ index, count: events.length })
  }
  return rounds
}

/** About how many characters one call carries: a script keeps the server's other clients waiting while it runs. */
const CALL_SIZE = 2 ** 20

export function calls(round: readonly Unit[], sessionsPerCall: number): Call[] {
  const found: Unit[][] = []
  const open = new Map<string, { call: Unit[]; size: number }>()
  for (const unit of round) {
    const terms = `${unit.entries.length} ${termsOf(unit.append)}`
    const length = unit.entries.reduce((sum, entry) => sum + entry.length, 0)
    let latest = open.get(terms)
    if (!latest || latest.call.length >= sessionsPerCall || latest.size + length > CALL_SIZE) {
      latest = { call: [], size: 0 }
      open.set(terms, latest)
      found.push(latest.call)
    }
    latest.call.push(unit)
    latest.size += length
  }
  return found
}

function termsOf({ generation, ttl, touch = true, limit }: Append): string {
  return `${generation} ${ttl} ${touch} ${limit}`
}
