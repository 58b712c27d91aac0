import type { Append, EventKind } from '../port.ts'
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
}

interface Names {
  readonly logs: string
  readonly events: string
}

const MS = "interval '1 millisecond'"

/**
 * One event for one log that exists: the whole machinery of a group would cost it a third of its speed.
 *
 * Order: the update takes the lock of the log's row, so one append after the other reads the counter, raises it and
 * inserts, each seeing what the one before committed. The lock is held until the commit, so events become visible in
 * the order of their positions: whoever sees n sees all below.
 */
export function appendOne({ logs, events }: Names, append: Append): PostgresQuery {
  const { sessionId, generation = null, ttl, touch = true } = append
  const { streamId, kind, payload } = append.events[0]!
  return {
    name: 'mcp_append_one',
    text: `
WITH bumped AS (
  UPDATE ${logs} SET
    last = last + 1,
    events_expire_at = greatest(events_expire_at, now() + $3::float8 * ${MS}),
    expires_at = CASE WHEN expires_at < now() + $4::float8 * ${MS} THEN now() + $4::float8 * 1.1 * ${MS} ELSE expires_at END
  WHERE session_id = $1 AND expires_at > now() AND ($2::bigint IS NULL OR generation = $2::bigint)
  RETURNING log_id, last, epoch, events_expire_at
), stored AS (
  INSERT INTO ${events} (log_id, position, stream_id, kind, payload, expires_at)
  SELECT log_id, last, $5, $6::smallint, $7, events_expire_at FROM bumped
)
SELECT 1 AS slot, last - 1 AS base, epoch FROM bumped`,
    values: [
      encodeText(sessionId),
      generation,
      boundedMs(ttl),
      touch ? boundedMs(ttl) : 0,
      encodeText(streamId),
      KINDS.indexOf(kind),
      encodeText(payload),
    ],
  }
}

/**
 * Many appends for many logs. It locks the rows of the logs first, in the order of their ids, so that two such
 * statements never wait for each other in a circle; then each log is as above, its events numbered from the counter
 * as it was under the lock. `missing` begins the logs that are not there, or have expired, and does the same; what it
 * is given has no generation to be checked.
 */
export function appendMany({ logs, events }: Names, slots: readonly Slot[], missing: boolean): PostgresQuery {
  const trims = slots.some(({ appends }) => appends.some(({ limit }) => limit !== undefined))
  const text = `
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest(${unpacked(1)}, $2::bigint[], $3::int[], $4::float8[], $5::float8[], $6::bigint[])
    WITH ORDINALITY AS asked (session_id, generation, count, ttl, touch, keep, slot)
), ${missing ? begin(logs) : bump({ logs, events })}, stored AS (
  INSERT INTO ${events} (log_id, position, stream_id, kind, payload, expires_at)
  SELECT log_id, base + rank, stream_id, kind, payload, events_expire_at
  FROM unnest($7::int[], $8::int[], ${unpacked(9)}, $10::smallint[], ${unpacked(11)})
    AS event (slot, rank, stream_id, kind, payload) JOIN bumped USING (slot)
)${trims ? trim(events) : ''}
SELECT slot, base, epoch FROM bumped`
  return {
    name: `mcp_append_${missing ? 'missing' : 'many'}${trims ? '_trim' : ''}`,
    text,
    values: parameters(slots),
  }
}

// Positions have holes where the log was copied from another backend, and begin late where events have expired: what to
// keep is counted, not subtracted. Where there are fewer, the floor rises to the oldest all the same, or each append would
// count again. Seen is what was there before we waited for the lock, so the floor may be behind, but never ahead.
const bump = ({ logs, events }: Names) => `locked AS MATERIALIZED (
  SELECT session_id, generation, floor, expires_at FROM ${logs}
  WHERE session_id = ANY (${unpacked(1)}) ORDER BY session_id FOR NO KEY UPDATE
), bumped AS (
  UPDATE ${logs} AS log SET
    last = log.last + count,
    floor = CASE WHEN log.last + count - log.floor > keep + keep / 10 THEN greatest(log.floor, coalesce((
      SELECT position FROM ${events} WHERE log_id = log.log_id ORDER BY position DESC
      LIMIT 1 OFFSET greatest(keep - count, 0)
    ), (
      SELECT position - 1 FROM ${events} WHERE log_id = log.log_id ORDER BY position LIMIT 1
    ))) ELSE log.floor END,
    events_expire_at = greatest(log.events_expire_at, now() + ttl * ${MS}),
    expires_at = CASE WHEN log.expires_at < now() + touch * ${MS} THEN now() + touch * 1.1 * ${MS} ELSE log.expires_at END
  FROM locked JOIN asked USING (session_id)
  WHERE log.session_id = locked.session_id AND locked.expires_at > now() AND (asked.generation IS NULL OR asked.generation = locked.generation)
  RETURNING slot, log.log_id, log.last - count AS base, epoch, log.floor, log.floor > locked.floor AS trims, log.events_expire_at
)`

// The row in conflict is read as it is under the lock: begun a moment ago by somebody else, or expired.
const begin = (logs: string) => `begun AS (
  INSERT INTO ${logs} AS log (session_id, last, events_expire_at, expires_at)
  SELECT session_id, count, now() + ttl * ${MS}, now() + greatest(ttl, touch * 1.1) * ${MS} FROM asked ORDER BY session_id
  ON CONFLICT (session_id) DO UPDATE SET
    log_id = CASE WHEN log.expires_at > now() THEN log.log_id ELSE excluded.log_id END,
    epoch = CASE WHEN log.expires_at > now() THEN log.epoch ELSE excluded.epoch END,
    generation = CASE WHEN log.expires_at > now() THEN log.generation ELSE 0 END,
    last = CASE WHEN log.expires_at > now() THEN log.last ELSE 0 END + excluded.last,
    floor = CASE WHEN log.expires_at > now() THEN log.floor ELSE 0 END,
    events_expire_at = CASE WHEN log.expires_at > now() THEN greatest(log.events_expire_at, excluded.events_expire_at)
      ELSE excluded.events_expire_at END,
    expires_at = greatest(log.expires_at, excluded.expires_at)
  RETURNING session_id, log_id, last, epoch, floor, events_expire_at
), bumped AS (
  SELECT slot, log_id, last - count AS base, epoch, floor, false AS trims, events_expire_at
  FROM begun JOIN asked USING (session_id)
)`

const trim = (events: string) => `, trimmed AS (
  DELETE FROM ${events} AS event USING bumped
  WHERE trims AND event.log_id = bumped.log_id AND event.position <= bumped.floor
)`

function parameters(slots: readonly Slot[]): unknown[] {
  const ids: string[] = []
  const generations: (number | null)[] = []
  const counts: number[] = []
  const ttls: number[] = []
  const touches: number[] = []
  const keeps: (number | null)[] = []
  const eventSlots: number[] = []
  const ranks: number[] = []
  const streamIds: string[] = []
  const kinds: number[] = []
  const payloads: string[] = []
  for (const [i, { sessionId, generation, appends }] of slots.entries()) {
    let rank = 0
    for (const { events } of appends) {
      for (const { streamId, kind, payload } of events) {
        rank += 1
        eventSlots.push(i + 1)
        ranks.push(rank)
        streamIds.push(streamId)
        kinds.push(KINDS.indexOf(kind))
        payloads.push(payload)
      }
    }
    ids.push(sessionId)
    generations.push(generation ?? null)
    counts.push(rank)
    ttls.push(boundedMs(Math.max(...appends.map(({ ttl }) => ttl))))
    touches.push(boundedMs(Math.max(...appends.map(({ ttl, touch = true }) => (touch ? ttl : 0)))))
    keeps.push(appends.findLast(({ limit }) => limit !== undefined)?.limit ?? null)
  }
  return [
    packTexts(ids),
    packScalars(generations),
    packScalars(counts),
    packScalars(ttls),
    packScalars(touches),
    packScalars(keeps),
    packScalars(eventSlots),
    packScalars(ranks),
    packTexts(streamIds),
    packScalars(kinds),
    packTexts(payloads),
  ]
}
