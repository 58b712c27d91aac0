import type { Append, EventKind, NewEvent } from '../port.ts'
import type { PostgresQuery } from './postgres-driver.ts'
import { boundedMs } from './postgres-schema.ts'
import { encodeText, packScalars, packTexts, unpacked } from './postgres-text.ts'

export const KINDS: readonly EventKind[] = ['open', 'message', 'final', 'end']

/** What one statement does to one log, for one append or for several. */
export interface Slot {
  readonly sessionId: string
  readonly generation: number | undefined
  readonly appends: Append[]
}

/** What came back for a slot that was stored; `slot` counts from 1. */
export interface StoredSlot {
  readonly slot: string | number
  readonly base: string | number
  readonly epoch: string
  readonly kept: string | number
}

export interface AppendTables {
  readonly logs: string
  readonly events: string
  readonly appenders: string
  /** Undefined: the schema has none, as it has no session records. */
  readonly openStreams: string | undefined
}

const MS = "interval '1 millisecond'"

/**
 * Appends for one log that exists, and that counts in its row: nobody appends to it from memory. The whole machinery of a group would cost a single event a third of its speed.
 *
 * Order: the update takes the lock of the log's row, so one append after the other reads the counter, raises it and
 * inserts, each seeing what the one before committed. The lock is held until the commit, so events become visible in
 * the order of their positions: whoever sees n sees all below.
 */
export function appendOne(tables: AppendTables, slot: Slot): PostgresQuery {
  const [row] = logRows([slot])
  const { id, generation, count, ttl, touch, beyond } = row!
  const rows = eventRows([slot])
  const values: unknown[] = [encodeText(id), generation, count, ttl, touch, beyond]
  const text = `
WITH bumped AS (
  UPDATE ${tables.logs} SET
    base = greatest(base, $6::bigint) + $3::int,
    kept = coalesce(kept, base - floor) + $3::int,
    expires_at = CASE WHEN expires_at < now() + $5::float8 * ${MS} THEN now() + $5::float8 * 1.1 * ${MS} ELSE expires_at END,
    sweep_at = least(sweep_at, now() + $4::float8 * ${MS})
  WHERE session_id = $1 AND appender IS NULL AND expires_at > now() AND ($2::bigint IS NULL OR generation = $2::bigint)
  RETURNING 1 AS slot, session_id, log_id, base - $3::int AS base, kept, epoch, now() + $4::float8 * ${MS} AS till
)${stored(tables.events, rows, values)}${opened(tables, rows, values)}
SELECT slot, base, epoch, kept FROM bumped`
  return { text, values }
}

/**
 * Many appends for many logs that count in their rows. It locks the rows of the logs first, in the order of their ids, so that two such
 * statements never wait for each other in a circle; then each log is as above, its events numbered from the counter
 * as it was under the lock. `missing` begins the logs that are not there, or have expired, and does the same; what it
 * is given has no generation to be checked.
 */
export function appendMany(tables: AppendTables, slots: readonly Slot[], missing: boolean): PostgresQuery {
  const logs = logRows(slots)
  const rows = eventRows(slots)
  const values: unknown[] = [
    packTexts(logs.map(({ id }) => id)),
    packScalars(logs.map(({ generation }) => generation)),
    packScalars(logs.map(({ count }) => count)),
    packScalars(logs.map(({ ttl }) => ttl)),
    packScalars(logs.map(({ touch }) => touch)),
    packScalars(logs.map(({ beyond }) => beyond)),
  ]
  const text = `
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest(${unpacked(1)}, $2::bigint[], $3::int[], $4::float8[], $5::float8[], $6::bigint[])
    WITH ORDINALITY AS asked (session_id, generation, count, ttl, touch, beyond, slot)
), ${missing ? begin(tables.logs, tables.events) : bump(tables.logs)}${stored(tables.events, rows, values)}${opened(tables, rows, values)}
SELECT slot, base, epoch, kept FROM bumped`
  return { text, values }
}

const bump = (logs: string) => `locked AS MATERIALIZED (
  SELECT session_id, generation, appender, expires_at FROM ${logs}
  WHERE session_id = ANY (${unpacked(1)}) ORDER BY session_id FOR NO KEY UPDATE
), bumped AS (
  UPDATE ${logs} AS log SET
    base = greatest(log.base, beyond) + count,
    kept = coalesce(log.kept, log.base - log.floor) + count,
    expires_at = CASE WHEN log.expires_at < now() + touch * ${MS} THEN now() + touch * 1.1 * ${MS} ELSE log.expires_at END,
    sweep_at = least(log.sweep_at, now() + ttl * ${MS})
  FROM locked JOIN asked USING (session_id)
  WHERE log.session_id = locked.session_id AND locked.appender IS NULL AND locked.expires_at > now()
    AND (asked.generation IS NULL OR asked.generation = locked.generation)
  RETURNING slot, log.session_id, log.log_id, log.base - count AS base, log.kept, epoch, now() + ttl * ${MS} AS till
)`

// The row in conflict is read as it is under the lock: begun a moment ago by somebody else, or expired. The events of one that
// has expired go: nobody would find them any more.
const begin = (logs: string, events: string) => `over AS (
  DELETE FROM ${events} AS event USING ${logs} AS log JOIN asked USING (session_id)
  WHERE log.expires_at <= now() AND event.log_id = log.log_id
), begun AS (
  INSERT INTO ${logs} AS log (session_id, base, kept, expires_at, sweep_at)
  SELECT session_id, greatest(beyond, 0) + count, count, now() + greatest(ttl, touch * 1.1) * ${MS}, now() + ttl * ${MS}
  FROM asked ORDER BY session_id COLLATE "C"
  ON CONFLICT (session_id) DO UPDATE SET
    log_id = CASE WHEN log.expires_at > now() THEN log.log_id ELSE excluded.log_id END,
    epoch = CASE WHEN log.expires_at > now() THEN log.epoch ELSE excluded.epoch END,
    generation = CASE WHEN log.expires_at > now() THEN log.generation ELSE 0 END,
    appender = NULL,
    base = CASE WHEN log.expires_at > now() THEN greatest(log.base, excluded.base - excluded.kept) + excluded.kept ELSE excluded.base END,
    kept = CASE WHEN log.expires_at > now() THEN coalesce(log.kept, log.base - log.floor) ELSE 0 END + excluded.kept,
    floor = CASE WHEN log.expires_at > now() THEN log.floor ELSE 0 END,
    expires_at = greatest(log.expires_at, excluded.expires_at),
    sweep_at = least(log.sweep_at, excluded.sweep_at)
  WHERE log.appender IS NULL OR log.expires_at <= now()
  RETURNING session_id, log_id, base, kept, epoch
), bumped AS (
  SELECT slot, session_id, log_id, begun.base - count AS base, kept, epoch, now() + ttl * ${MS} AS till FROM begun JOIN asked USING (session_id)
)`

/** Adds the events, and their parameters to `values`. */
export function stored(events: string, rows: readonly EventRow[], values: unknown[]): string {
  const n = values.length
  values.push(
    packScalars(rows.map(({ slot }) => slot)),
    packScalars(rows.map(({ rank }) => rank)),
    packTexts(rows.map(({ streamId }) => streamId)),
    packScalars(rows.map(({ kind }) => KINDS.indexOf(kind))),
    packTexts(rows.map(({ payload }) => payload)),
    // With what follows: is it to be noted as open?
    ...(rows.some(({ opens }) => opens) ? [packScalars(rows.map(({ opens }) => opens))] : []),
  )
  const opens = values.length === n + 6 ? `$${n + 6}::bool[]` : `'{}'::bool[]`
  return `, event AS (
  SELECT * FROM unnest($${n + 1}::int[], $${n + 2}::int[], ${unpacked(n + 3)}, $${n + 4}::smallint[], ${unpacked(n + 5)}, ${opens})
    AS event (slot, rank, stream_id, kind, payload, opens)
), stored AS (
  INSERT INTO ${events} (log_id, position, stream_id, kind, payload, expires_at)
  SELECT log_id, base + rank, stream_id, kind, payload, till FROM event JOIN bumped USING (slot)
)`
}

/**
 * Notes the streams that are open from now on, and forgets those that are no longer. A stream that begins and ends in
 * this statement is not written at all; what is forgotten is what earlier statements have noted.
 */
export function opened({ openStreams }: AppendTables, rows: readonly EventRow[], values: unknown[]): string {
  if (openStreams === undefined) return ''
  let text = ''
  if (rows.some(({ opens }) => opens)) {
    text += `, opened AS (
  INSERT INTO ${openStreams} (session_id, log_id, stream_id, position, payload)
  SELECT session_id, log_id, stream_id, base + rank, payload FROM event JOIN bumped USING (slot) WHERE opens
)`
  }
  const closing = rows.filter(({ kind }) => closes(kind))
  if (closing.length > 0) {
    const n = values.push(
      packScalars(closing.map(({ slot }) => slot)),
      packTexts(closing.map(({ streamId }) => streamId)),
    )
    text += `, closed AS (
  DELETE FROM ${openStreams} AS open
  USING bumped JOIN unnest($${n - 1}::int[], ${unpacked(n)}) AS closing (slot, stream_id) USING (slot)
  WHERE open.session_id = bumped.session_id AND open.stream_id = closing.stream_id AND open.log_id = bumped.log_id
)`
  }
  return text
}

export interface LogRow {
  readonly id: string
  readonly generation: number | null
  readonly count: number
  readonly ttl: number
  readonly touch: number
  readonly beyond: number
}

export function logRows(slots: readonly Slot[]): LogRow[] {
  return slots.map(({ sessionId, generation = null, appends }) => ({
    id: sessionId,
    generation,
    count: appends.reduce((sum, { events }) => sum + events.length, 0),
    ttl: boundedMs(Math.max(...appends.map(({ ttl }) => ttl))),
    touch: boundedMs(Math.max(...appends.map(({ ttl, touch = true }) => (touch ? ttl : 0)))),
    beyond: beyondOf(appends),
  }))
}

/** Each append lies beyond what it asks for; those before it are numbered before it. */
export function beyondOf(appends: readonly Append[]): number {
  let count = 0
  let most = 0
  for (const { beyond = 0, events } of appends) {
    most = Math.max(most, beyond - count)
    count += events.length
  }
  return most
}

interface EventRow extends NewEvent {
  readonly slot: number
  readonly rank: number
  /** It opens its stream, and nothing behind it in the same statement ends it. */
  opens: boolean
}

export function eventRows(slots: readonly Slot[]): EventRow[] {
  return slots.flatMap(({ appends }, i) => {
    const rows = appends
      .flatMap(({ events }) => events)
      .map(({ streamId, kind, payload }, k): EventRow => {
        return { streamId, kind, payload, slot: i + 1, rank: k + 1, opens: kind === 'open' }
      })
    const closed = new Set<string>()
    for (const row of rows.toReversed()) {
      if (closes(row.kind)) closed.add(row.streamId)
      else if (closed.has(row.streamId)) row.opens = false
    }
    return rows
  })
}

function closes(kind: EventKind): boolean {
  return kind === 'final' || kind === 'end'
}
