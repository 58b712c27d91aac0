import type { PostgresQuery } from './postgres-driver.ts'
import { packScalars, packTexts, unpacked } from './postgres-text.ts'

/** A log that may hold more events than it should. */
export interface Excess {
  readonly sessionId: string
  readonly limit: number
}

/**
 * Counts the newest `limit` events of each log, removes what is behind them, and puts `kept` right. It runs once for
 * every tenth of a limit that is appended, in a statement of its own: the counting would cost every append its plan.
 *
 * Appends that come between the look and the lock are not lost: `kept` changes by the difference that was seen.
 */
export function trimQuery(
  { logs, events }: { logs: string; events: string },
  excess: readonly Excess[],
): PostgresQuery {
  const text = `
WITH seen AS MATERIALIZED (
  SELECT log.session_id, log.log_id, coalesce(log.kept, log.base - log.floor) AS kept, (
    SELECT count(*) FROM (
      SELECT 1 FROM ${events} WHERE log_id = log.log_id ORDER BY position DESC LIMIT asked.keep
    ) AS newest
  ) AS count, (
    SELECT position FROM ${events} WHERE log_id = log.log_id ORDER BY position DESC LIMIT 1 OFFSET asked.keep
  ) AS cut
  FROM unnest(${unpacked(1)}, $2::bigint[]) AS asked (session_id, keep) JOIN ${logs} AS log USING (session_id)
), locked AS MATERIALIZED (
  SELECT log.session_id, log.log_id FROM ${logs} AS log JOIN seen USING (session_id)
  ORDER BY log.session_id FOR NO KEY UPDATE OF log
), trimmed AS (
  UPDATE ${logs} AS log SET
    floor = greatest(log.floor, seen.cut),
    kept = coalesce(log.kept, log.base - log.floor) - seen.kept + seen.count
  FROM locked JOIN seen USING (session_id, log_id)
  WHERE log.session_id = locked.session_id AND log.log_id = locked.log_id
  RETURNING log.session_id, log.log_id, log.kept, seen.cut
), gone AS (
  DELETE FROM ${events} AS event USING trimmed WHERE event.log_id = trimmed.log_id AND event.position <= trimmed.cut
)
SELECT session_id, kept FROM trimmed`
  return {
    text,
    values: [
      packTexts(excess.map(({ sessionId }) => sessionId)),
      packScalars(excess.map(({ limit }) => limit)),
    ],
  }
}
