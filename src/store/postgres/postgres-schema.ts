import type { CompiledQuery, Generated, Kysely } from 'kysely'
import type { PostgresConnections } from './postgres-connections.ts'
import { loadKysely, sql } from './postgres-kysely.ts'

/** Columns of `bigint` arrive as text. */
type BigInt = string | number

/** `migrations/postgres/` in TypeScript. */
export interface Tables {
  mcp_logs: {
    session_id: string
    log_id: Generated<BigInt>
    epoch: Generated<string>
    generation: Generated<BigInt>
    last: Generated<BigInt>
    floor: Generated<BigInt>
    events_expire_at: Generated<Date>
    expires_at: Date
  }
  mcp_events: {
    log_id: BigInt
    position: BigInt
    stream_id: string
    kind: number
    payload: string
    expires_at: Date
  }
  mcp_sessions: {
    id: string
    epoch: string
    principal: string | null
    state: string
    owner: string | null
    generation: BigInt
    delivered: Generated<BigInt>
    ttl: number
    created_at: Generated<Date>
    last_used_at: Generated<Date>
    tombstone_until: Date | null
  }
  mcp_nodes: { id: string; public_key: string; lease_until: Date; lock_key: BigInt | null }
  mcp_tasks: {
    id: string
    session_id: string | null
    version: Generated<BigInt>
    value: string
    expires_at: Date
  }
  mcp_letters: { node_id: string; letter_id: Generated<BigInt>; body: Buffer }
}

interface Compilable {
  compile(): CompiledQuery
}

/**
 * kysely for writing statements; running them is the business of {@link PostgresConnections}. Nothing but names before
 * `load` has resolved.
 */
export class PostgresSchema {
  readonly name: string
  readonly #connections: PostgresConnections
  #builder: Kysely<Tables> | undefined
  #db: Kysely<Tables> | undefined

  constructor(name: string, connections: PostgresConnections) {
    this.name = name
    this.#connections = connections
  }

  async load(): Promise<void> {
    const { DummyDriver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } =
      await loadKysely()
    this.#builder ??= new Kysely<Tables>({
      dialect: {
        createAdapter: () => new PostgresAdapter(),
        createDriver: () => new DummyDriver(),
        createIntrospector: (db) => new PostgresIntrospector(db),
        createQueryCompiler: () => new PostgresQueryCompiler(),
      },
    })
    this.#db ??= this.#builder.withSchema(this.name)
  }

  get db(): Kysely<Tables> {
    return this.#db!
  }

  /** A table by its full name, for raw SQL. */
  table(table: keyof Tables) {
    return sql.id(this.name, table)
  }

  /** The same as text, quoted. */
  quoted(table: keyof Tables | 'mcp_migrations'): string {
    return `${quoteIdentifier(this.name)}.${table}`
  }

  async run<Row>(query: Compilable, options?: { repeatable?: boolean }): Promise<Row[]> {
    const { sql: text, parameters: values } = query.compile()
    return this.#connections.query<Row>({ text, values }, options)
  }

  async raw<Row>(query: ReturnType<typeof sql>, options?: { repeatable?: boolean }): Promise<Row[]> {
    return this.run<Row>({ compile: () => query.compile(this.#builder!) }, options)
  }
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A point in time as milliseconds since 1970, whatever the driver makes of timestamps. */
export function millis(column: string) {
  return sql<number>`(extract(epoch from ${sql.ref(column)}) * 1000)::float8`
}

/** A span of milliseconds, at most a century: beyond the range of timestamps nothing would be stored at all. */
export function span(ms: number) {
  return sql`(${boundedMs(ms)}::float8 * interval '1 millisecond')`
}

export function boundedMs(ms: number): number {
  return Math.min(ms, 3.15e12)
}
