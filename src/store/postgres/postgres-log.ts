import { isPersistError, PersistError } from '../../errors.ts'
import type { Append, Appended, EventLog, Page, StoredEvent } from '../port.ts'
import { awayIn, GroupCommit, type Outcome } from '../shared/group-commit.ts'
import { fenced, gone } from '../shared/refusals.ts'
import { appendMany, appendOne, KINDS, type Slot, type StoredSlot } from './postgres-append.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { type ReadRow, readQuery } from './postgres-read.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { decodeText, encodeText, packTexts, unpacked } from './postgres-text.ts'

export interface PostgresLogOptions {
  readonly connections: PostgresConnections
  readonly schema: PostgresSchema
  /** Throws once the store is closed. */
  readonly assertOpen: () => void
  /** Resolves when the schema is known to be there. */
  readonly opened: () => Promise<void>
  /** Removes the records of sessions whose logs are over, before their logs are begun anew. */
  readonly forgetDead: (sessionIds: readonly string[]) => Promise<void>
}

/** Characters of payload in one statement, unless a single append has more. */
const MAX_CHARACTERS = 4 * 2 ** 20
/** An index entry cannot be longer than a third of a page. */
const MAX_ID_BYTES = 1024

/**
 * A counter row for each session gives out the positions, in commit order. What is appended at the same time, by
 * whichever sessions, travels in one statement, one after the other: two at a time would each carry half, at 32 appends
 * at once little more than half as fast, at 256 no faster.
 */
export class PostgresLog implements EventLog {
  readonly #options: PostgresLogOptions
  readonly #names: { logs: string; events: string }
  readonly #group: GroupCommit<Append, Appended>

  constructor(options: PostgresLogOptions) {
    this.#options = options
    this.#names = { logs: options.schema.quoted('mcp_logs'), events: options.schema.quoted('mcp_events') }
    this.#group = new GroupCommit((batch) => this.#flush(batch))
  }

  async append(append: Append): Promise<Appended> {
    this.#options.assertOpen()
    check(append)
    return this.#group.add(append)
  }

  async read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page> {
    this.#options.assertOpen()
    await this.#options.opened()
    const rows = await this.#options.connections.query<ReadRow>(readQuery(this.#names, query), {
      repeatable: true,
    })
    const state = rows.find(({ epoch }) => epoch !== null)
    if (!state) return { events: [], more: false, epoch: undefined, floor: 0, last: 0, corrupt: 0 }
    // PostgreSQL answers in order, but what a UNION says is a set.
    const found = rows.filter((row) => row !== state).sort((a, b) => Number(a.position) - Number(b.position))
    const events: StoredEvent[] = []
    for (const { position, stream_id, kind, payload } of found.slice(0, query.limit)) {
      const text = decodeText(payload)
      const name = KINDS[kind]
      if (text === undefined || name === undefined) continue
      const streamId = query.streamId ?? decodeText(stream_id!) ?? stream_id!
      events.push({ position: Number(position), streamId, kind: name, payload: text })
    }
    return {
      events,
      more: found.length > query.limit,
      epoch: state.epoch!,
      floor: Number(state.floor),
      last: Number(state.last),
      corrupt: Math.min(found.length, query.limit) - events.length,
    }
  }

  async delete(sessionId: string): Promise<void> {
    const { assertOpen, opened, connections, forgetDead } = this.#options
    assertOpen()
    await opened()
    const text = `WITH gone AS (DELETE FROM ${this.#names.logs} WHERE session_id = $1 RETURNING log_id)
DELETE FROM ${this.#names.events} AS event USING gone WHERE event.log_id = gone.log_id`
    await connections.query({ text, values: [encodeText(sessionId)] }, { repeatable: true })
    await forgetDead([sessionId])
  }

  /** Resolves when every append so far has settled. */
  settled(): Promise<void> {
    return this.#group.settled()
  }

  async #flush(batch: readonly Append[]): Promise<readonly Outcome<Appended>[]> {
    await this.#options.opened()
    const outcomes = new Map<Append, Outcome<Appended>>()
    for (let rest = batch; rest.length > 0; ) {
      const round = nextRound(rest)
      rest = round.rest
      await this.#store(round.slots, outcomes)
      const away = awayIn(outcomes.values())
      if (away) return batch.map((append) => outcomes.get(append) ?? away)
    }
    return batch.map((append) => outcomes.get(append)!)
  }

  async #store(slots: readonly Slot[], outcomes: Map<Append, Outcome<Appended>>): Promise<void> {
    try {
      const left = await this.#run(slots, outcomes, false)
      const missing = left.filter(({ generation }) => generation === undefined)
      if (missing.length > 0) {
        await this.#options.forgetDead(missing.map(({ sessionId }) => sessionId))
        await this.#run(missing, outcomes, true)
      }
      const refused = left.filter(({ generation }) => generation !== undefined)
      if (refused.length > 0) await this.#explain(refused, outcomes)
    } catch (error) {
      const appends = slots.flatMap(({ appends }) => appends).filter((append) => !outcomes.has(append))
      // One of them holds something that PostgreSQL refuses, and it shall fail alone.
      if (isPersistError(error, 'INVALID_ARGUMENT') && appends.length > 1) {
        for (const append of appends) {
          const { sessionId, generation } = append
          await this.#store([{ sessionId, generation, appends: [append] }], outcomes)
        }
      } else for (const append of appends) outcomes.set(append, { error })
    }
  }

  /** Resolves with the slots that were not stored. */
  async #run(
    slots: readonly Slot[],
    outcomes: Map<Append, Outcome<Appended>>,
    missing: boolean,
  ): Promise<Slot[]> {
    const [append, ...more] = slots.length === 1 ? slots[0]!.appends : []
    const alone = append && more.length === 0 && append.events.length === 1 && append.limit === undefined
    const query = alone && !missing ? appendOne(this.#names, append) : appendMany(this.#names, slots, missing)
    const rows = await this.#options.connections.query<StoredSlot>(query)
    const stored = new Set<Slot>()
    for (const { slot, base, epoch } of rows) {
      const found = slots[Number(slot) - 1]!
      stored.add(found)
      let position = Number(base)
      for (const append of found.appends) {
        const positions = append.events.map(() => ++position)
        outcomes.set(append, { ok: { positions, epoch } })
      }
    }
    return slots.filter((slot) => !stored.has(slot))
  }

  /** Why were they not stored? The log is in another generation, or there is none. */
  async #explain(slots: readonly Slot[], outcomes: Map<Append, Outcome<Appended>>): Promise<void> {
    const text = `SELECT session_id, generation FROM ${this.#names.logs} WHERE session_id = ANY (${unpacked(1)}) AND expires_at > now()`
    const rows = await this.#options.connections.query<{ session_id: string; generation: string }>(
      { text, values: [packTexts(slots.map(({ sessionId }) => sessionId))] },
      { repeatable: true },
    )
    const current = new Map(rows.map((row) => [row.session_id, Number(row.generation)]))
    for (const { sessionId, generation, appends } of slots) {
      const found = current.get(encodeText(sessionId))
      const error =
        found === undefined || found === generation ? gone(sessionId) : fenced(sessionId, generation!, found)
      for (const append of appends) outcomes.set(append, { error })
    }
  }
}

/**
 * The appends of one statement: each session in one generation only, and no more text than is good for both sides.
 * What is left for the next statement keeps its order, a session's appends behind each other.
 */
function nextRound(appends: readonly Append[]): { slots: Slot[]; rest: Append[] } {
  const slots = new Map<string, Slot>()
  const postponed = new Set<string>()
  const rest: Append[] = []
  let characters = 0
  for (const append of appends) {
    const { sessionId, generation, events } = append
    const slot = slots.get(sessionId)
    const size = events.reduce((sum, { payload }) => sum + payload.length, 0)
    const full = slots.size > 0 && characters + size > MAX_CHARACTERS
    if (full || postponed.has(sessionId) || (slot && slot.generation !== generation)) {
      postponed.add(sessionId)
      rest.push(append)
      continue
    }
    characters += size
    if (slot) slot.appends.push(append)
    else slots.set(sessionId, { sessionId, generation, appends: [append] })
  }
  return { slots: [...slots.values()], rest }
}

function check({ sessionId, events, ttl }: Append): void {
  const id = [sessionId, ...events.map(({ streamId }) => streamId)].find(
    (id) => id.length > MAX_ID_BYTES / 4 && Buffer.byteLength(id) > MAX_ID_BYTES,
  )
  if (id !== undefined) {
    throw new PersistError(
      'INVALID_ARGUMENT',
      `The id ${id.slice(0, 40)}… has ${Buffer.byteLength(id)} bytes; ${MAX_ID_BYTES} are the most.`,
    )
  }
  if (!Number.isFinite(ttl) || ttl < 0) {
    throw new PersistError('INVALID_ARGUMENT', `A time to live of ${ttl} ms is none; give a positive number.`)
  }
}
