import {
  type AppendTables,
  beyondOf,
  eventRows,
  logRows,
  opened,
  type Slot,
  stored,
} from './postgres-append.ts'
import type { Ownership } from './postgres-appender.ts'
import type { PostgresQuery } from './postgres-driver.ts'
import { packScalars, packTexts, unpacked } from './postgres-text.ts'

/** A slot of which this process knows where its log ends, as nobody else appends to it. */
export interface OwnedSlot extends Slot {
  readonly ownership: Ownership
}

export interface OwnedResult {
  /** Is the appender still what it was? If not, nothing was stored. */
  readonly alive: boolean
  readonly count: number
  /** Those that were stored, where some were not. */
  readonly slots: string | null
}

const MS = "interval '1 millisecond'"

/**
 * Appends to logs of ours: their rows are read, and neither locked nor written, and the positions come along.
 *
 * Order: one statement of ours follows the other, each after the commit of the one before. Fence: all that is read here is
 * as of the statement's beginning, and the appender's row is locked until its commit. Whoever takes a log over deletes that
 * row first, and looks at the log in a later statement. So either we have the lock first, and are seen; or the row is gone,
 * and nothing is stored, however old what we have read may be.
 *
 * A log that would expire before these events, or be swept much later, is left out: its row is to be written first.
 */
export function appendOwned(
  tables: AppendTables,
  appender: string,
  slots: readonly OwnedSlot[],
): PostgresQuery {
  const logs = logRows(slots)
  const rows = eventRows(slots)
  const values: unknown[] = [
    appender,
    packTexts(logs.map(({ id }) => id)),
    packScalars(slots.map(({ ownership }) => ownership.generation)),
    packScalars(slots.map(({ ownership }) => ownership.logId)),
    packScalars(slots.map(baseOf)),
    packScalars(logs.map(({ ttl }) => ttl)),
    packScalars(logs.map(({ touch }) => touch)),
  ]
  const text = `
WITH me AS MATERIALIZED (
  SELECT FROM ${tables.appenders} WHERE appender_id = $1::uuid FOR KEY SHARE
), asked AS MATERIALIZED (
  SELECT * FROM unnest(${unpacked(2)}, $3::bigint[], $4::bigint[], $5::bigint[], $6::float8[], $7::float8[])
    WITH ORDINALITY AS asked (session_id, generation, log_id, base, ttl, touch, slot)
), bumped AS MATERIALIZED (
  SELECT slot, session_id, log_id, asked.base, now() + ttl * ${MS} AS till FROM asked JOIN ${tables.logs} AS log USING (session_id, log_id, generation)
  WHERE log.appender = $1::uuid AND EXISTS (SELECT FROM me)
    AND expires_at > now() AND expires_at >= now() + touch * ${MS} AND sweep_at <= now() + ttl * 1.1 * ${MS}
)${stored(tables.events, rows, values)}${opened(tables, rows, values)}
SELECT EXISTS (SELECT FROM me) AS alive, count(*)::int AS count,
  CASE WHEN count(*) < ${'$'}${values.push(slots.length)}::int THEN string_agg(slot::text, ',') END AS slots
FROM bumped`
  return { text, values }
}

/** The events are numbered from the next one on. */
export function baseOf({ ownership, appends }: OwnedSlot): number {
  return Math.max(ownership.last, beyondOf(appends))
}
