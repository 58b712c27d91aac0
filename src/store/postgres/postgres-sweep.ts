import type { SweepResult } from '../port.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { raw, type Sql, sql } from './postgres-sql.ts'

/**
 * One bounded step, safe on many nodes at once: rows that another sweep, or an append, has locked are passed over.
 * `now()` stands still within a statement, so the indexes on the expiry can be used.
 */
export async function sweep(
  schema: PostgresSchema,
  { limit, dryRun, eventsOnly }: { limit: number; dryRun: boolean; eventsOnly: boolean },
): Promise<SweepResult> {
  const events = await (dryRun ? countEvents(schema, limit) : sweepEvents(schema, limit))
  if (eventsOnly) {
    const logs = dryRun ? 0 : await sweepExpired(schema, ['mcp_logs', 'session_id'], limit)
    return { events, sessions: 0, nodes: 0, more: events >= limit || logs >= limit }
  }
  const [sessions, logs] = dryRun
    ? [await countSessions(schema, limit), 0]
    : await sweepSessions(schema, limit)
  const nodes = await (dryRun ? countNodes(schema, limit) : sweepNodes(schema, limit))
  const tasks = dryRun ? 0 : await sweepExpired(schema, ['mcp_tasks', 'id'], limit)
  const parcels = dryRun ? 0 : await sweepExpired(schema, ['mcp_parcels', 'parcel_id'], limit)
  const counts = [events, sessions, logs, nodes, tasks, parcels]
  return { events, sessions, nodes, more: counts.some((count) => count >= limit) }
}

/** No log has to know: what has expired is below its floor already. */
async function sweepEvents(schema: PostgresSchema, limit: number): Promise<number> {
  const events = schema.table('mcp_events')
  return count(
    schema,
    sql`WITH expired AS MATERIALIZED (
      SELECT log_id, position, stream_id FROM ${events} WHERE expires_at <= now() ORDER BY expires_at LIMIT ${limit}::bigint FOR UPDATE SKIP LOCKED
    ), gone AS (
      DELETE FROM ${events} AS event USING expired
      WHERE event.log_id = expired.log_id AND event.position = expired.position AND event.stream_id = expired.stream_id
      RETURNING 1
    ) SELECT count(*) AS count FROM gone`,
  )
}

/** Rows of a table that name when they expire themselves, the oldest first. */
async function sweepExpired(
  schema: PostgresSchema,
  [name, key]:
    | readonly ['mcp_logs', 'session_id']
    | readonly ['mcp_tasks', 'id']
    | readonly ['mcp_parcels', 'parcel_id'],
  limit: number,
): Promise<number> {
  const table = schema.table(name)
  return count(
    schema,
    sql`WITH expired AS MATERIALIZED (
      SELECT ${raw(key)} FROM ${table} WHERE expires_at <= now() ORDER BY expires_at LIMIT ${limit}::bigint FOR UPDATE SKIP LOCKED
    ), gone AS (DELETE FROM ${table} AS dead USING expired
      WHERE ${raw(`dead.${key} = expired.${key}`)} RETURNING 1)
    SELECT count(*) AS count FROM gone`,
  )
}

/** Expired logs with their records, and tombstones. A log whose record is locked stays, or nobody would find that. */
async function sweepSessions(schema: PostgresSchema, limit: number): Promise<[number, number]> {
  const logs = schema.table('mcp_logs')
  const sessions = schema.table('mcp_sessions')
  const [row] = await schema.rows<{ sessions: string; logs: string }>(sql`
    WITH expired AS MATERIALIZED (
      SELECT session_id, epoch FROM ${logs} WHERE expires_at <= now() ORDER BY expires_at LIMIT ${limit}::bigint FOR UPDATE SKIP LOCKED
    ), dead AS MATERIALIZED (
      SELECT id, record.epoch FROM ${sessions} AS record JOIN expired ON record.id = session_id AND record.epoch = expired.epoch
      WHERE tombstone_until IS NULL FOR UPDATE OF record SKIP LOCKED
    ), tombstones AS MATERIALIZED (
      SELECT id, epoch FROM ${sessions} WHERE tombstone_until <= now() ORDER BY tombstone_until
      LIMIT greatest(0, ${limit}::bigint - (SELECT count(*) FROM dead)) FOR UPDATE SKIP LOCKED
    ), ended AS (
      DELETE FROM ${sessions} AS record USING (SELECT * FROM dead UNION ALL SELECT * FROM tombstones) AS over
      WHERE record.id = over.id AND record.epoch = over.epoch RETURNING record.id
    ), gone AS (
      DELETE FROM ${logs} AS log USING expired
      WHERE log.session_id = expired.session_id AND NOT EXISTS (
        SELECT 1 FROM ${sessions} AS record
        WHERE record.id = expired.session_id AND record.epoch = expired.epoch AND tombstone_until IS NULL
          AND record.id NOT IN (SELECT id FROM dead))
      RETURNING log.session_id
    ), closed AS (
      DELETE FROM ${schema.table('mcp_open_streams')} AS open USING gone WHERE open.session_id = gone.session_id
    ) SELECT (SELECT count(*) FROM ended) AS sessions, (SELECT count(*) FROM gone) AS logs`)
  return [Number(row!.sessions), Number(row!.logs)]
}

async function sweepNodes(schema: PostgresSchema, limit: number): Promise<number> {
  const nodes = schema.table('mcp_nodes')
  return count(
    schema,
    sql`WITH dead AS MATERIALIZED (
      SELECT id FROM ${nodes} WHERE lease_until <= clock_timestamp() ORDER BY id LIMIT ${limit}::bigint FOR UPDATE SKIP LOCKED
    ), gone AS (DELETE FROM ${nodes} AS node USING dead WHERE node.id = dead.id RETURNING 1)
    SELECT count(*) AS count FROM gone`,
  )
}

async function countEvents(schema: PostgresSchema, limit: number): Promise<number> {
  const events = schema.table('mcp_events')
  return countUpTo(schema, limit, sql`SELECT 1 FROM ${events} WHERE expires_at <= now()`)
}

async function countSessions(schema: PostgresSchema, limit: number): Promise<number> {
  const logs = schema.table('mcp_logs')
  const sessions = schema.table('mcp_sessions')
  return countUpTo(
    schema,
    limit,
    sql`SELECT 1 FROM ${logs} AS log JOIN ${sessions} AS record ON record.id = log.session_id AND record.epoch = log.epoch
        WHERE log.expires_at <= now() AND tombstone_until IS NULL
        UNION ALL SELECT 1 FROM ${sessions} WHERE tombstone_until <= now()`,
  )
}

async function countNodes(schema: PostgresSchema, limit: number): Promise<number> {
  return countUpTo(schema, limit, sql`SELECT 1 FROM ${schema.table('mcp_nodes')} WHERE lease_until <= now()`)
}

async function countUpTo(schema: PostgresSchema, limit: number, rows: Sql): Promise<number> {
  return count(schema, sql`SELECT count(*) AS count FROM (${rows} LIMIT ${limit}::bigint) AS counted`)
}

async function count(schema: PostgresSchema, query: Sql): Promise<number> {
  const [row] = await schema.rows<{ count: string }>(query)
  return Number(row!.count)
}
