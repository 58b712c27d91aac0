import type { Append, NewEvent } from '../port.ts'
import { encode } from './redis-entry.ts'

/** Appends to one session that are stored as one: consecutive, and alike in all but their events. */
export interface Unit {
  readonly append: Append
  readonly entries: string[]
  /** Which appends of the batch these are, and how many events each brought. */
  readonly parts: { readonly index: number; readonly count: number }[]
  readonly opened: OpenedOrEnded
  beyond: number
  size: number
}

/** What one script call carries: no session twice, and all on the same terms, which travel once. */
export type Call = readonly Unit[]

/** About how many characters one call carries: a script keeps the server's other clients waiting while it runs. */
const CALL_SIZE = 2 ** 20

/**
 * A batch as rounds of units. A session occurs once in a round: its next unit, for another generation say, or because
 * the one before is large enough, waits for the round after. Mostly there is one round.
 */
export function units(appends: readonly Append[]): Unit[][] {
  const rounds: Unit[][] = []
  const latest = new Map<string, { unit: Unit; round: number }>()
  for (const [index, append] of appends.entries()) {
    const { sessionId, events, ttl, beyond = 0 } = append
    const entries = events.map((event) => encode(event, ttl))
    const size = entries.reduce((sum, entry) => sum + entry.length, 0)
    const before = latest.get(sessionId)
    let unit = before?.unit
    if (!unit || !isAlike(unit.append, append) || unit.size + size > CALL_SIZE) {
      unit = { append, entries: [], parts: [], opened: new OpenedOrEnded(), beyond, size: 0 }
      const round = before ? before.round + 1 : 0
      if (rounds.length === round) rounds.push([])
      rounds[round]!.push(unit)
      latest.set(sessionId, { unit, round })
    }
    // What comes before it in the unit is numbered before it.
    unit.beyond = Math.max(unit.beyond, beyond - unit.entries.length)
    for (const [i, event] of events.entries()) {
      unit.entries.push(entries[i]!)
      unit.opened.note(event, unit.entries.length)
    }
    unit.parts.push({ index, count: events.length })
    unit.size += size
  }
  return rounds
}

/**
 * Which entries of a unit the script has to look at, to know what streams are open after it: neither an `open` that
 * ends in the same unit nor any end but the last.
 */
class OpenedOrEnded {
  /** Left out of most units: nothing in them opens or ends a stream. */
  #streams: Map<string, { readonly number: number; readonly sign: 'o' | 'e' }[]> | undefined

  note({ streamId, kind }: NewEvent, number: number): void {
    if (kind === 'message') return
    this.#streams ??= new Map()
    if (kind !== 'open') return void this.#streams.set(streamId, [{ number, sign: 'e' }])
    const before = this.#streams.get(streamId)
    const opened = { number, sign: 'o' } as const
    if (before) before.push(opened)
    else this.#streams.set(streamId, [opened])
  }

  /** In the order of the entries. */
  get signs(): string[] {
    if (!this.#streams) return []
    const noted = [...this.#streams.values()].flat().sort((a, b) => a.number - b.number)
    return noted.map(({ number, sign }) => `${sign}${number}`)
  }
}

/** The first argument of a unit, as the append script reads it. */
export function headOf({ append, beyond, opened }: Unit): string {
  const head = `${append.generation ?? '-'} ${beyond}`
  const { signs } = opened
  return signs.length === 0 ? head : `${head} ${signs.join(' ')}`
}

export function calls(round: readonly Unit[], sessionsPerCall: number): Call[] {
  const found: Unit[][] = []
  const open = new Map<string, { call: Unit[]; size: number }>()
  for (const unit of round) {
    const terms = `${unit.entries.length} ${termsOf(unit.append)}`
    let latest = open.get(terms)
    if (!latest || latest.call.length >= sessionsPerCall || latest.size + unit.size > CALL_SIZE) {
      latest = { call: [], size: 0 }
      open.set(terms, latest)
      found.push(latest.call)
    }
    latest.call.push(unit)
    latest.size += unit.size
  }
  return found
}

/** What the appends of one call have in common. Not the generation: each session has one of its own. */
function termsOf({ ttl, touch = true, limit }: Append): string {
  return `${ttl} ${touch} ${limit}`
}

function isAlike(one: Append, other: Append): boolean {
  return one.generation === other.generation && termsOf(one) === termsOf(other)
}
