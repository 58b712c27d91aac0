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
import type { PostgresAppender } from './postgres-appender.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { appendOwned, baseOf, type OwnedResult, type OwnedSlot } from './postgres-owned-append.ts'
import { type ReadRow, readQuery } from './postgres-read.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { decodeText, encodeText } from './postgres-text.ts'
import { type Excess, trimQuery } from './postgres-trim.ts'

export interface PostgresLogOptions {
  readonly connections: PostgresConnections
  readonly schema: PostgresSchema
  readonly appender: PostgresAppender
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
/** Of a log that changes hands in the middle of an append: each look may find another appender. */
const MAX_ATTEMPTS = 8
/** An index entry cannot be longer than a third of a page. */
const MAX_ID_BYTES = 1024

/**
 * Positions are given out in commit order: by the process that owns the log, from memory (PostgresAppender), or by a counter
 * in the log's row where nobody does, as in logs without a session. What is appended at the same time, by
 * whichever sessions, travels in one statement, one after the other: two at a time would each carry half, at 32 appends
 * at once little more than half as fast, at 256 no faster.
 */
export class PostgresLog implements EventLog {
  readonly #options: PostgresLogOptions
  readonly #names: { logs: string; events: string }
  readonly #group: GroupCommit<Append, Appended>
  /** Resolves when what is being stored has its outcomes. */
  #storing: Promise<void> = Promise.resolve()
  /** Sessions that are not appended to at the moment, until these resolve. */
  readonly #quiet = new Map<string, Promise<void>>()

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
    return {
      ...this.#names,
      appenders: schema.quoted('mcp_appenders'),
      openStreams: hasSessions() ? schema.quoted('mcp_open_streams') : undefined,
    }
  }

  /** Resolves when every append so far has settled. */
  settled(): Promise<void> {
    return this.#group.settled()
  }

  /** Runs while nothing is appended to this session from here, and none of its appends is under way. */
  async whileQuiet<T>(sessionId: string, work: () => Promise<T>): Promise<T> {
    const before = this.#quiet.get(sessionId)
    const turn = (async () => {
      await before
      await this.#storing
      return work()
    })()
    const over = turn.then(
      () => {},
      () => {},
    )
    this.#quiet.set(sessionId, over)
    try {
      return await turn
    } finally {
      if (this.#quiet.get(sessionId) === over) this.#quiet.delete(sessionId)
    }
  }

  async #flush(batch: readonly Append[]): Promise<readonly Outcome<Appended>[]> {
    await this.#options.opened()
    const outcomes = new Map<Append, Outcome<Appended>>()
    for (let rest = batch; rest.length > 0; ) {
      const round = nextRound(rest)
      rest = round.rest
      // Looked at in the very turn in which storing begins.
      for (let quiet = this.#quietOf(round); quiet; quiet = this.#quietOf(round)) await quiet
      this.#storing = this.#store(round.slots, outcomes)
      await this.#storing
      const away = awayIn(outcomes.values())
      if (away) return batch.map((append) => outcomes.get(append) ?? away)
    }
    return batch.map((append) => outcomes.get(append)!)
  }

  #quietOf({ slots }: { slots: readonly Slot[] }): Promise<unknown> | undefined {
    if (this.#quiet.size === 0) return undefined
    const quiet = slots.flatMap(({ sessionId }) => this.#quiet.get(sessionId) ?? [])
    return quiet.length === 0 ? undefined : Promise.all(quiet)
  }

  /** Never rejects: each append has its outcome. */
  async #store(slots: readonly Slot[], outcomes: Map<Append, Outcome<Appended>>): Promise<void> {
    try {
      let left = slots
      for (let attempt = 1; left.length > 0; attempt++) {
        if (attempt > MAX_ATTEMPTS) throw contended(left[0]!.sessionId)
        left = await this.#run(left, outcomes)
        if (left.length > 0) left = await this.#take(left, outcomes)
      }
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

  /** Resolves with the slots that were not stored: their logs' rows are to be looked at. */
  async #run(slots: readonly Slot[], outcomes: Map<Append, Outcome<Appended>>): Promise<Slot[]> {
    const { appender } = this.#options
    const owned: OwnedSlot[] = []
    const counted: Slot[] = []
    const left: Slot[] = []
    for (const slot of slots) {
      const ownership = appender.find(slot)
      if (!ownership) counted.push(slot)
      else if (appender.isCurrent(ownership)) owned.push({ ...slot, ownership })
      else left.push(slot)
    }
    if (owned.length > 0) left.push(...(await this.#runOwned(owned, outcomes)))
    if (counted.length === 0) return left
    const refused = await this.#runCounted(counted, outcomes, false)
    const missing = refused.filter(({ generation }) => generation === undefined)
    if (missing.length === 0) return [...left, ...refused]
    await this.#options.forgetDead(missing.map(({ sessionId }) => sessionId))
    const held = await this.#runCounted(missing, outcomes, true)
    return [...left, ...refused.filter(({ generation }) => generation !== undefined), ...held]
  }

  async #runOwned(slots: readonly OwnedSlot[], outcomes: Map<Append, Outcome<Appended>>): Promise<Slot[]> {
    const { appender, connections } = this.#options
    const id = slots[0]!.ownership.appender
    let result: OwnedResult
    try {
      const query = appendOwned(this.#tables, id, slots)
      const [row] = await connections.query<OwnedResult>(query, { urgent: true })
      result = row!
    } catch (error) {
      // It may be stored yet: what follows must not be, under this id, before that is known.
      if (isPersistError(error, 'STORE_UNAVAILABLE')) appender.renounce(id)
      throw error
    }
    if (!result.alive) appender.renounce(id)
    if (result.count === 0) return [...slots]
    const stored = result.slots === null ? undefined : new Set(result.slots.split(',').map(Number))
    const left: Slot[] = []
    const excess: Excess[] = []
    for (const [i, slot] of slots.entries()) {
      if (stored && !stored.has(i + 1)) {
        left.push(slot)
        continue
      }
      const { ownership } = slot
      ownership.last = settle(slot, baseOf(slot), ownership.epoch, outcomes)
      ownership.kept += slot.appends.reduce((sum, { events }) => sum + events.length, 0)
      noteExcess(slot, ownership.kept, excess)
    }
    await this.#trim(excess)
    return left
  }

  async #runCounted(
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
      settle(found, Number(base), epoch, outcomes)
      noteExcess(found, Number(kept), excess)
    }
    await this.#trim(excess)
    return slots.filter((slot) => !stored.has(slot))
  }

  /** What is stored is stored: a log that could not be trimmed is still too long at the next append. */
  async #trim(excess: readonly Excess[]): Promise<void> {
    if (excess.length === 0) return
    const { appender, connections } = this.#options
    const query = trimQuery(this.#names, excess)
    const rows = await connections
      .query<{ session_id: string; kept: string }>(query, { urgent: true })
      .catch(() => [])
    for (const { session_id, kept } of rows) appender.counted(session_id, Number(kept))
  }

  /** Refuses what cannot be had, and resolves with the rest, to be tried again. */
  async #take(slots: readonly Slot[], outcomes: Map<Append, Outcome<Appended>>): Promise<Slot[]> {
    const left: Slot[] = []
    for (const [slot, taken] of await this.#options.appender.take(slots)) {
      const { sessionId, generation, appends } = slot
      // A log that is not fenced is begun where there is none.
      if (typeof taken === 'string' || generation === undefined) left.push(slot)
      else {
        const found = taken.generation
        const error = found === undefined ? gone(sessionId) : fenced(sessionId, generation, found)
        for (const append of appends) outcomes.set(append, { error })
      }
    }
    return left
  }
}

/** Each append lies behind the one before; resolves with the last position. */
function settle(slot: Slot, base: number, epoch: string, outcomes: Map<Append, Outcome<Appended>>): number {
  let position = base
  for (const append of slot.appends) {
    const positions = append.events.map(() => ++position)
    outcomes.set(append, { ok: { positions, epoch } })
  }
  return position
}

function noteExcess({ sessionId, appends }: Slot, kept: number, excess: Excess[]): void {
  const limit = appends.findLast(({ limit }) => limit !== undefined)?.limit
  if (limit !== undefined && kept > limit * 1.1) excess.push({ sessionId, limit })
}

function contended(sessionId: string): PersistError {
  const facts = `Session ${sessionId} is appended to by several processes at once, which take turns at its log`
  return new PersistError('STORE_UNAVAILABLE', `${facts}; try again.`)
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
      `The id ${id.slice(0, 40)}… has ${Buffer.byteLength(id)} bytes; the limit is ${MAX_ID_BYTES}.`,
    )
  }
  if (!Number.isFinite(ttl) || ttl < 0) {
    throw new PersistError('INVALID_ARGUMENT', `ttl must be a positive number of milliseconds, not ${ttl}.`)
  }
}
