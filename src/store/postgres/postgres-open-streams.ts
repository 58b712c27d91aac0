import type { OpenStream } from '../port.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { raw, type Sql, sql } from './postgres-sql.ts'
import { decodeText } from './postgres-text.ts'

interface Row {
  readonly stream_id: string
  readonly payload: string
  readonly runs: number
}

/**
 * SQL for the open streams of a log as JSON, in the order in which they were opened first.
 *
 * One that the log knows to have ended is left out: its end may have been stored by a statement that began before the
 * one that opened it was over (its caller had given up waiting), or by a release that does not know of this table.
 */
export function openStreamsOf(schema: PostgresSchema, sessionId: string, logId: string): Sql {
  return sql`(
    SELECT coalesce(json_agg(stream ORDER BY first), '[]')::text FROM (
      SELECT stream_id, min(position) AS first, sum(runs)::int AS runs,
        (array_agg(payload ORDER BY position DESC))[1] AS payload
      FROM ${schema.table('mcp_open_streams')} AS open
      WHERE open.session_id = ${raw(sessionId)} AND open.log_id = ${raw(logId)} AND NOT EXISTS (
        SELECT 1 FROM ${schema.table('mcp_events')} AS event
        WHERE event.log_id = open.log_id AND event.stream_id = open.stream_id AND open.position > 0
          AND event.position > open.position AND event.kind IN (2, 3))
      GROUP BY stream_id
    ) AS stream
  )`
}

export function toOpenStreams(json: string): OpenStream[] {
  return (JSON.parse(json) as Row[]).map(({ stream_id, payload, runs }) => ({
    streamId: decoded(stream_id),
    payload: decoded(payload),
    runs: Number(runs),
  }))
}

function decoded(text: string): string {
  return decodeText(text) ?? text
}
