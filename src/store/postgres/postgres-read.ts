import type { PostgresQuery } from './postgres-driver.ts'
import { encodeText } from './postgres-text.ts'

export interface ReadRow {
  /** Set in the row that tells the state, and in no other; likewise the next two. */
  readonly epoch: string | null
  readonly last: string
  readonly floor: string
  /** Set in rows of events, likewise the rest; `stream_id` only where all streams were asked for. */
  readonly position: string | null
  readonly stream_id: string | null
  readonly kind: number
  readonly payload: string
}

/** SQL for the highest position that `log` has given out: its row may not know the last ones. */
export function lastOf(events: string): string {
  return `greatest(log.base, (SELECT position FROM ${events} WHERE log_id = log.log_id ORDER BY position DESC LIMIT 1))`
}

/**
 * One page and the state of its log, as of one moment. An event is never gone before those ahead of it: the oldest that
 * lives marks the floor for all.
 *
 * The state is a row of its own, and the stream's name is left out where it was asked for: what each row repeats costs
 * more than the payload. The CTE is materialized, or the oldest would be looked for once for each row of the page.
 */
export function readQuery(
  { logs, events }: { logs: string; events: string },
  query: { sessionId: string; streamId?: string; after: number; limit: number },
): PostgresQuery {
  const { sessionId, streamId, after, limit } = query
  const ofStream = streamId !== undefined
  return {
    text: `
WITH log AS MATERIALIZED (
  SELECT log_id, epoch, last, coalesce((
    SELECT position FROM ${events}
    WHERE log_id = log.log_id AND position > log.floor AND expires_at > now() ORDER BY position LIMIT 1
  ), last + 1) AS oldest
  FROM ${logs} AS log, LATERAL (SELECT ${lastOf(events)} AS last) AS end_of_log WHERE session_id = $1 AND expires_at > now()
)
SELECT epoch, last, oldest - 1 AS floor, NULL::bigint AS position, NULL AS stream_id, NULL::smallint AS kind, NULL AS payload
FROM log
UNION ALL
SELECT NULL, NULL, NULL, page.* FROM log CROSS JOIN LATERAL (
  SELECT position, ${ofStream ? 'NULL' : 'stream_id'}, kind, payload FROM ${events}
  WHERE log_id = log.log_id AND position > $2::bigint AND position >= oldest${ofStream ? ' AND stream_id = $4' : ''}
  ORDER BY position LIMIT $3::bigint
) AS page`,
    values: [encodeText(sessionId), after, limit + 1, ...(ofStream ? [encodeText(streamId)] : [])],
  }
}
