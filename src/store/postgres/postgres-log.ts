import { isPersistError, PersistError } from '../../errors.ts'
import { awayIn, GroupCommit, type Outcome } from '../common/group-commit.ts'
import { fenced, gone } from '../common/refusals.ts'
import type { Append, Appended, EventLog, Page, StoredEvent } from '../port.ts'
import {
  type AppendTables,
  appendMany,
  appendOne,
  KINDS,
  type Slot,
  type StoredSlot,
} from './postgres-append.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { type ReadRow, readQuery } from './postgres-read.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { decodeText, encodeText, packTexts, unpacked } from './postgres-text.ts'
import { type Excess, trimQuery } from './postgres-trim.ts'

export interface PostgresLogOptions {
  readonly connections: PostgresConnections
  readonly schema: PostgresSchema
  readonly maxWaiting: number
  /** Throws once the store is closed. */
  readonly assertOpen: () => void
  /** Resolves when the schema is known to be there. */
  readonly opened: () => Promise<void>
  /** Known when the store is open: does the schema have session records? */
  readonly hasSessions: () => boolean
  /** Removes the records of sessions whose logs are over, before their logs are begun anew. */
  readonly forgetDead: (sessionIds: readonly string[]) => Promise<void>
}

/** Bytes of payload in one statement, about, unless a single append has more. */
const MAX_BYTES = 4 * 2 ** 20
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
    this.#group = new GroupCommit((batch) => this.#flush(batch), {
      maxWaiting: options.maxWaiting,
      maxBatchBytes: MAX_BYTES,
      sizeOf,
    })
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
    if (!state) {
      const none = { events: [], more: false, epoch: undefined, floor: 0, last: 0, corrupt: 0 }
      return { ...none, scanned: query.after }
    }
    // PostgreSQL answers in order, but what a UNION says is a set.
    const found = rows.filter((row) => row !== state).sort((a, b) => Number(a.position) - Number(b.position))
    const more = found.length > query.limit
    const rowsOfPage = found.slice(0, query.limit)
    const events: StoredEvent[] = []
    for (const { position, stream_id, kind, payload } of rowsOfPage) {
      const text = decodeText(payload)
      const name = KINDS[kind]
      if (text === undefined || name === undefined) continue
      const streamId = query.streamId ?? decodeText(stream_id!) ?? stream_id!
      events.push({ position: Number(position), streamId, kind: name, payload: text })
    }
    const last = Number(state.last)
    return {
      events,
      more,
      epoch: state.epoch!,
      floor: Number(state.floor),
      last,
      corrupt: rowsOfPage.length - events.length,
      scanned: more ? Number(rowsOfPage.at(-1)?.position ?? query.after) : Math.max(last, query.after),
    }
  }

  async delete(sessionId: string): Promise<void> {
    const { assertOpen, opened, connections, forgetDead } = this.#options
    assertOpen()
    await opened()
    const open = this.#tables.openStreams
    const text = `WITH gone AS (DELETE FROM ${this.#names.logs} WHERE session_id = $1 RETURNING log_id)
${open === undefined ? '' : `, closed AS (DELETE FROM ${open} WHERE session_id = $1)`}
DELETE FROM ${this.#names.events} AS event USING gone WHERE event.log_id = gone.log_id`
    await connections.query({ text, values: [encodeText(sessionId)] }, { repeatable: true })
    await forgetDead([sessionId])
  }

  get #tables(): AppendTables {
    const { schema, hasSessions } = this.#options
    return { ...this.#names, openStreams: hasSessions() ? schema.quoted('mcp_open_streams') : undefined }
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
    const query =
      slots.length === 1 && !missing
        ? appendOne(this.#tables, slots[0]!)
        : appendMany(this.#tables, slots, missing)
    const rows = await this.#options.connections.query<StoredSlot>(query, { urgent: true })
    const stored = new Set<Slot>()
    const excess: Excess[] = []
    for (const { slot, base, epoch, kept } of rows) {
      const found = slots[Number(slot) - 1]!
      stored.add(found)
      let position = Number(base)
      for (const append of found.appends) {
        const positions = append.events.map(() => ++position)
        outcomes.set(append, { ok: { positions, epoch } })
      }
      const limit = found.appends.findLast(({ limit }) => limit !== undefined)?.limit
      if (limit !== undefined && Number(kept) > limit * 1.1)
        excess.push({ sessionId: found.sessionId, limit })
    }
    if (excess.length > 0) await this.#trim(excess)
    return slots.filter((slot) => !stored.has(slot))
  }

  /** What is stored is stored: a log that could not be trimmed is still too long at the next append. */
  async #trim(excess: readonly Excess[]): Promise<void> {
    await this.#options.connections.query(trimQuery(this.#names, excess), { urgent: true }).catch(() => {})
  }

  /** Why were they not stored? The log is in another generation, or there is none. */
  async #explain(slots: readonly Slot[], outcomes: Map<Append, Outcome<Appended>>): Promise<void> {
    const text = `SELECT session_id, generation FROM ${this.#names.logs} WHERE session_id = ANY (${unpacked(1)}) AND expires_at > now()`
    const rows = await this.#options.connections.query<{ session_id: string; generation: string }>(
      { text, values: [packTexts(slots.map(({ sessionId }) => sessionId))] },
      { repeatable: true, urgent: true },
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
 * The appends of one statement: each session in one generation only.
 * What is left for the next statement keeps its order, a session's appends behind each other.
 */
function nextRound(appends: readonly Append[]): { slots: Slot[]; rest: Append[] } {
  const slots = new Map<string, Slot>()
  const postponed = new Set<string>()
  const rest: Append[] = []
  for (const append of appends) {
    const { sessionId, generation } = append
    const slot = slots.get(sessionId)
    if (postponed.has(sessionId) || (slot && slot.generation !== generation)) {
      postponed.add(sessionId)
      rest.push(append)
      continue
    }
    if (slot) slot.appends.push(append)
    else slots.set(sessionId, { sessionId, generation, appends: [append] })
  }
  return { slots: [...slots.values()], rest }
}

function sizeOf({ events }: Append): number {
  return events.reduce((sum, { payload }) => sum + payload.length, 0)
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
