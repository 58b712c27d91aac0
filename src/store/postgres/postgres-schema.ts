import type { PostgresConnections, QueryOptions } from './postgres-connections.ts'
import { raw, type Sql, sql, statement } from './postgres-sql.ts'

/** `migrations/postgres/`. */
export type TableName =
  | 'mcp_appenders'
  | 'mcp_events'
  | 'mcp_logs'
  | 'mcp_migrations'
  | 'mcp_nodes'
  | 'mcp_open_streams'
  | 'mcp_parcels'
  | 'mcp_sessions'
  | 'mcp_task_messages'
  | 'mcp_task_queues'
  | 'mcp_tasks'

/** The schema that holds the tables, and statements on them. Running them is the business of {@link PostgresConnections}. */
export class PostgresSchema {
  readonly name: string
  readonly #connections: PostgresConnections

  constructor(name: string, connections: PostgresConnections) {
    this.name = name
    this.#connections = connections
  }

  /** A table by its full name. */
  table(table: TableName): Sql {
    return raw(this.quoted(table))
  }

  /** The same as text. */
  quoted(table: TableName): string {
    return `${quoteIdentifier(this.name)}.${table}`
  }

  rows<Row>(query: Sql, options?: QueryOptions): Promise<Row[]> {
    return this.#connections.query<Row>(statement(query), options)
  }
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A point in time as milliseconds since 1970, whatever the driver makes of timestamps. */
export function millis(column: string): Sql {
  return raw(`(extract(epoch from ${column}) * 1000)::float8`)
}

/** A span of milliseconds, at most a century: beyond the range of timestamps nothing would be stored at all. */
export function span(ms: number): Sql {
  return sql`(${boundedMs(ms)}::float8 * interval '1 millisecond')`
}

export function boundedMs(ms: number): number {
  return Math.min(ms, 3.15e12)
}
