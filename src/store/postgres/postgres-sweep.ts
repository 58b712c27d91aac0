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
  const expired = await (dryRun ? countEvents(schema, limit) : sweepEvents(schema, limit))
  const ended = dryRun ? NONE : await sweepLogs(schema, limit, eventsOnly)
  const events = expired + ended.events
  const appenders = dryRun ? 0 : await sweepAppenders(schema, limit)
  if (eventsOnly) {
    return {
      events,
      sessions: 0,
      nodes: 0,
      more: [events, appenders].some((count) => count >= limit) || ended.more,
    }
  }
  const tombstones = dryRun ? 0 : await sweepTombstones(schema, limit)
  const sessions = dryRun ? await countSessions(schema, limit) : ended.sessions + tombstones
  const nodes = await (dryRun ? countNodes(schema, limit) : sweepNodes(schema, limit))
  const tasks = dryRun ? 0 : await sweepExpired(schema, ['mcp_tasks', 'id'], limit)
  const parcels = dryRun ? 0 : await sweepExpired(schema, ['mcp_parcels', 'parcel_id'], limit)
  const counts = [events, sessions, appenders, nodes, tasks, parcels]
  return { events, sessions, nodes, more: counts.some((count) => count >= limit) || ended.more }
}

interface Ended {
  readonly events: number
  readonly sessions: number
  readonly more: boolean
}

const NONE: Ended = { events: 0, sessions: 0, more: false }

/** Beyond every position. */
const END = raw(`${2n ** 63n - 1n}`)
/** Logs of one step: each is locked while it takes. */
const LOGS_AT_ONCE = 100

/**
 * Events of logs that live. The log's row says how far they are gone before they are, as nothing else tells it where the log
 * ends; it is locked, or passed over, before anything of it is looked at, so that a sweep waits for nobody.
 */
async function sweepEvents(schema: PostgresSchema, limit: number): Promise<number> {
  const events = schema.table('mcp_events')
  const logs = schema.table('mcp_logs')
  return count(
    schema,
    sql`WITH due AS MATERIALIZED (
      SELECT session_id, log_id, expires_at FROM ${logs} WHERE sweep_at <= now() AND expires_at > now()
      ORDER BY sweep_at LIMIT least(${limit}::bigint, ${LOGS_AT_ONCE}) FOR NO KEY UPDATE SKIP LOCKED
    ), expired AS MATERIALIZED (
      SELECT log_id, position FROM due CROSS JOIN LATERAL (
        SELECT position FROM ${events} WHERE log_id = due.log_id AND position < coalesce((
          SELECT position FROM ${events} WHERE log_id = due.log_id AND expires_at > now() ORDER BY position LIMIT 1), ${END})
        ORDER BY position
      ) AS event LIMIT ${limit}::bigint
    ), gone AS (
      DELETE FROM ${events} AS event USING expired
      WHERE event.log_id = expired.log_id AND event.position = expired.position RETURNING 1
    ), cut AS MATERIALIZED (
      SELECT session_id, due.log_id, coalesce(max(position), 0) AS position
      FROM due LEFT JOIN expired USING (log_id) GROUP BY session_id, due.log_id
    ), swept AS (
      UPDATE ${logs} AS log SET
        base = greatest(base, cut.position), floor = greatest(floor, cut.position),
        sweep_at = least(log.expires_at, (
          SELECT expires_at FROM ${events} WHERE log_id = log.log_id AND position > cut.position ORDER BY position LIMIT 1))
      FROM cut WHERE log.session_id = cut.session_id
    ) SELECT count(*) AS count FROM gone`,
  )
}

/**
 * Logs that are over, each when its last event is gone, and its session with it. A log whose record is locked stays, or
 * nobody would find that.
 */
async function sweepLogs(schema: PostgresSchema, limit: number, eventsOnly: boolean): Promise<Ended> {
  const events = schema.table('mcp_events')
  const logs = schema.table('mcp_logs')
  const sessions = schema.table('mcp_sessions')
  const [row] = await schema.rows<{ due: string; events: string; logs: string; sessions: string }>(sql`
    WITH due AS MATERIALIZED (
      SELECT session_id, log_id, epoch FROM ${logs} WHERE sweep_at <= now() AND expires_at <= now()
      ORDER BY sweep_at LIMIT least(${limit}::bigint, ${LOGS_AT_ONCE}) FOR UPDATE SKIP LOCKED
    ), expired AS MATERIALIZED (
      SELECT log_id, position FROM due CROSS JOIN LATERAL (
        SELECT position FROM ${events} WHERE log_id = due.log_id ORDER BY position
      ) AS event LIMIT ${limit}::bigint
    ), gone AS (
      DELETE FROM ${events} AS event USING expired
      WHERE event.log_id = expired.log_id AND event.position = expired.position RETURNING 1
    ), cut AS MATERIALIZED (
      SELECT session_id, due.log_id, epoch, coalesce(max(position), 0) AS position
      FROM due LEFT JOIN expired USING (log_id) GROUP BY session_id, due.log_id, epoch
    ), empty AS MATERIALIZED (
      SELECT session_id, epoch FROM cut
      WHERE NOT EXISTS (SELECT 1 FROM ${events} WHERE log_id = cut.log_id AND position > cut.position)
    )${
      eventsOnly
        ? sql``
        : sql`, dead AS MATERIALIZED (
      SELECT id, record.epoch FROM ${sessions} AS record JOIN empty ON record.id = session_id AND record.epoch = empty.epoch
      WHERE tombstone_until IS NULL FOR UPDATE OF record SKIP LOCKED
    ), ended AS (
      DELETE FROM ${sessions} AS record USING dead WHERE record.id = dead.id AND record.epoch = dead.epoch RETURNING record.id
    )`
    }, over AS (
      DELETE FROM ${logs} AS log USING empty
      WHERE log.session_id = empty.session_id${
        eventsOnly
          ? sql``
          : sql` AND NOT EXISTS (
        SELECT 1 FROM ${sessions} AS record
        WHERE record.id = empty.session_id AND record.epoch = empty.epoch AND tombstone_until IS NULL
          AND record.id NOT IN (SELECT id FROM dead))`
      }
      RETURNING log.session_id
    )${
      eventsOnly
        ? sql``
        : sql`, closed AS (
      DELETE FROM ${schema.table('mcp_open_streams')} AS open USING over WHERE open.session_id = over.session_id
    )`
    }
    SELECT (SELECT count(*) FROM due) AS due, (SELECT count(*) FROM gone) AS events, (SELECT count(*) FROM over) AS logs,
      ${eventsOnly ? sql`0` : sql`(SELECT count(*) FROM ended)`} AS sessions`)
  const [due, gone] = [Number(row!.due), Number(row!.events)]
  return {
    events: gone,
    sessions: Number(row!.sessions),
    more: due >= Math.min(limit, LOGS_AT_ONCE) || gone >= limit,
  }
}

/** With what an append left that was under way when the session was ended. */
async function sweepTombstones(schema: PostgresSchema, limit: number): Promise<number> {
  const sessions = schema.table('mcp_sessions')
  return count(
    schema,
    sql`WITH expired AS MATERIALIZED (
      SELECT id, epoch, log_id FROM ${sessions} WHERE tombstone_until <= now()
      ORDER BY tombstone_until LIMIT ${limit}::bigint FOR UPDATE SKIP LOCKED
    ), events AS (
      DELETE FROM ${schema.table('mcp_events')} AS event USING expired WHERE event.log_id = expired.log_id
    ), closed AS (
      DELETE FROM ${schema.table('mcp_open_streams')} AS open USING expired
      WHERE open.session_id = expired.id AND open.log_id = expired.log_id
    ), gone AS (
      DELETE FROM ${sessions} AS record USING expired WHERE record.id = expired.id AND record.epoch = expired.epoch RETURNING 1
    ) SELECT count(*) AS count FROM gone`,
  )
}

/** Those of processes that are long gone. One that is still there takes another. */
async function sweepAppenders(schema: PostgresSchema, limit: number): Promise<number> {
  const appenders = schema.table('mcp_appenders')
  return count(
    schema,
    sql`WITH old AS MATERIALIZED (
      SELECT appender_id FROM ${appenders} WHERE created_at < now() - interval '1 day' LIMIT ${limit}::bigint FOR UPDATE SKIP LOCKED
    ), gone AS (DELETE FROM ${appenders} AS appender USING old WHERE appender.appender_id = old.appender_id RETURNING 1)
    SELECT count(*) AS count FROM gone`,
  )
}

/** Rows of a table that name when they expire themselves, the oldest first. */
async function sweepExpired(
  schema: PostgresSchema,
  [name, key]: readonly ['mcp_tasks', 'id'] | readonly ['mcp_parcels', 'parcel_id'],
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
  return countUpTo(
    schema,
    limit,
    sql`SELECT 1 FROM ${schema.table('mcp_logs')} AS log JOIN ${events} AS event USING (log_id)
        WHERE sweep_at <= now() AND (log.expires_at <= now() OR event.expires_at <= now())`,
  )
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
