import type { StoreStats } from '../port.ts'
import type { PostgresSchema, TableName } from './postgres-schema.ts'
import { sql } from './postgres-sql.ts'

export interface ServerFacts {
  readonly version: string
  readonly version_num: number
  readonly encoding: string
  readonly fsync: string
  readonly synchronous_commit: string
  readonly full_page_writes: string
  readonly standby: boolean
  readonly connections: number
  readonly max_connections: number
}

export async function serverFacts(schema: PostgresSchema): Promise<ServerFacts> {
  const setting = (name: string) => sql`current_setting(${name})`
  const [facts] = await schema.rows<ServerFacts>(
    sql`SELECT ${setting('server_version')} AS version, ${setting('server_version_num')}::int AS version_num,
      ${setting('server_encoding')} AS encoding, ${setting('fsync')} AS fsync,
      ${setting('synchronous_commit')} AS synchronous_commit, ${setting('full_page_writes')} AS full_page_writes,
      pg_is_in_recovery() AS standby, ${setting('max_connections')}::int AS max_connections,
      (SELECT sum(numbackends) FROM pg_stat_database)::int AS connections`,
    { repeatable: true },
  )
  return facts!
}

/** What may cost data or speed, one sentence each. */
export function warningsOf(facts: ServerFacts, wakeUpsArePooled: boolean): string[] {
  const warnings: string[] = []
  if (facts.version_num < 130_000) {
    warnings.push(`PostgreSQL ${facts.version} is older than 13, the oldest that is supported.`)
  }
  if (facts.fsync === 'off') {
    warnings.push('fsync is off: a crash of the machine can cost the whole database; turn it on.')
  }
  if (facts.full_page_writes === 'off' && facts.fsync === 'on') {
    warnings.push('full_page_writes is off: a crash of the machine can damage the database.')
  }
  if (facts.synchronous_commit === 'off') {
    warnings.push(
      'synchronous_commit is off: a crash can cost the last events that were acknowledged, and their ids are then given out again.',
    )
  }
  if (facts.encoding !== 'UTF8') {
    warnings.push(
      `The database is in ${facts.encoding}: characters beyond it are refused; use a database in UTF8.`,
    )
  }
  if (facts.standby) warnings.push('This server is a standby: it can be read but not written to.')
  if (facts.connections > 0.9 * facts.max_connections) {
    warnings.push(`${facts.connections} of ${facts.max_connections} connections are in use.`)
  }
  if (wakeUpsArePooled) {
    warnings.push(
      'A pooler stands before PostgreSQL where wake-ups need a direct connection: they come by chance only; give a listenUrl.',
    )
  }
  return warnings
}

const EVENT_TABLES: readonly TableName[] = ['mcp_logs', 'mcp_events', 'mcp_appenders']
const SESSION_TABLES: readonly TableName[] = [
  'mcp_sessions',
  'mcp_open_streams',
  'mcp_nodes',
  'mcp_parcels',
  'mcp_tasks',
  'mcp_task_queues',
  'mcp_task_messages',
]

/** Beyond this many rows the planner's estimate stands for the count, which would take seconds. */
const COUNTED = 100_000

export async function stats(schema: PostgresSchema, eventsOnly: boolean): Promise<StoreStats> {
  const [events, bytes] = await Promise.all([countEvents(schema), tableBytes(schema, eventsOnly)])
  if (eventsOnly) return { sessions: 0, events, bytes, nodes: 0 }
  const [row] = await schema.rows<{ sessions: string; nodes: string }>(
    sql`SELECT (
        SELECT count(*) FROM ${schema.table('mcp_sessions')} AS record
        JOIN ${schema.table('mcp_logs')} AS log ON log.session_id = record.id AND log.epoch = record.epoch
        WHERE tombstone_until IS NULL AND log.expires_at > now()
      ) AS sessions, (
        SELECT count(*) FROM ${schema.table('mcp_nodes')} WHERE lease_until > clock_timestamp()
      ) AS nodes`,
    { repeatable: true },
  )
  return { sessions: Number(row!.sessions), events, bytes, nodes: Number(row!.nodes) }
}

async function countEvents(schema: PostgresSchema): Promise<number> {
  const events = schema.table('mcp_events')
  const [row] = await schema.rows<{ count: string; estimate: number }>(
    sql`SELECT (SELECT count(*) FROM (SELECT 1 FROM ${events} LIMIT ${COUNTED}::bigint) AS counted) AS count,
      (SELECT reltuples::float8 FROM pg_class WHERE oid = ${schema.quoted('mcp_events')}::regclass) AS estimate`,
    { repeatable: true },
  )
  const count = Number(row!.count)
  return count < COUNTED ? count : Math.max(count, Number(row!.estimate))
}

async function tableBytes(schema: PostgresSchema, eventsOnly: boolean): Promise<number> {
  const tables = eventsOnly ? EVENT_TABLES : [...EVENT_TABLES, ...SESSION_TABLES]
  const names = tables.map((table) => schema.quoted(table))
  const [row] = await schema.rows<{ bytes: string }>(
    sql`SELECT sum(pg_total_relation_size(name::regclass)) AS bytes FROM unnest(${`{${names.map((name) => JSON.stringify(name)).join(',')}}`}::text[]) AS name`,
    { repeatable: true },
  )
  return Number(row!.bytes)
}
