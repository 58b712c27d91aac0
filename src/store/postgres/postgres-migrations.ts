import { loadMigrations } from '../migrations/load.ts'
import type { AppliedMigration, Migration, MigrationTarget } from '../migrations/target.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import type { PostgresPoolClient } from './postgres-driver.ts'
import { lockKey } from './postgres-nodes.ts'
import { quoteIdentifier } from './postgres-schema.ts'

/** A migration may rewrite a table. */
const MIGRATION_TIMEOUT = 10 * 60_000

/** Migrates one schema, and creates it if need be. */
export class PostgresMigrations implements MigrationTarget {
  readonly dialect = 'postgres'
  readonly #connections: PostgresConnections
  readonly #schema: string

  constructor(connections: PostgresConnections, schema: string) {
    this.#connections = connections
    this.#schema = schema
  }

  async applied(): Promise<readonly AppliedMigration[]> {
    const table = `${quoteIdentifier(this.#schema)}.mcp_migrations`
    const [found] = await this.#connections.query<{ found: boolean }>(
      { text: 'SELECT to_regclass($1) IS NOT NULL AS found', values: [table] },
      { repeatable: true },
    )
    if (!found?.found) return []
    // By way of JSON, because release 0.1.0 made the table without `compatible`.
    const rows = await this.#connections.query<AppliedMigration>(
      {
        text: `SELECT name, checksum, (extract(epoch from applied_at) * 1000)::float8 AS "appliedAt",
          to_jsonb(m) ->> 'compatible' AS compatible FROM ${table} m ORDER BY name`,
      },
      { repeatable: true },
    )
    return rows.map((row) => ({ ...row, appliedAt: Number(row.appliedAt) }))
  }

  /** The names of those that are applied and of those that are not. */
  async status(): Promise<{ applied: string[]; newer: string[]; pending: string[] }> {
    const applied = (await this.applied()).map(({ name }) => name)
    const known = loadMigrations(this.dialect).map(({ name }) => name)
    const pending = known.filter((name) => !applied.includes(name))
    return { applied, newer: applied.filter((name) => !known.includes(name)), pending }
  }

  async apply(migration: Migration): Promise<boolean> {
    return this.#connections.use((client) => this.#apply(client, migration), { timeout: MIGRATION_TIMEOUT })
  }

  /**
   * `IF NOT EXISTS` is no help against a race for schema and table themselves, hence the lock before the row. It is the
   * transaction's, and all settings are local to it, so that a pooler may stand in between.
   */
  async #apply(client: PostgresPoolClient, { name, checksum, compatible, sql }: Migration): Promise<boolean> {
    const schema = quoteIdentifier(this.#schema)
    const run = (text: string, values: unknown[] = []) => client.query({ text, values })
    await run('BEGIN')
    try {
      await run(`SET LOCAL statement_timeout = 0`)
      await run('SELECT pg_advisory_xact_lock($1)', [lockKey(this.#schema, '\0migrations')])
      const { rows } = await run('SELECT FROM pg_namespace WHERE nspname = $1', [this.#schema])
      // Asked first: who may not create schemas may still have been given one.
      if (rows.length === 0) await run(`CREATE SCHEMA ${schema}`)
      await run(`SET LOCAL search_path TO ${schema}`)
      await run(`CREATE TABLE IF NOT EXISTS mcp_migrations (
        name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), compatible text)`)
      await run('ALTER TABLE mcp_migrations ADD COLUMN IF NOT EXISTS compatible text')
      const inserted = await run(
        'INSERT INTO mcp_migrations (name, checksum, compatible) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING name',
        [name, checksum, compatible],
      )
      // The simple protocol takes a whole file; `client.query(text)` without values would do the same.
      if (inserted.rows.length > 0) await client.query({ text: sql })
      await run('COMMIT')
      return inserted.rows.length > 0
    } catch (error) {
      await run('ROLLBACK').catch(() => {})
      throw error
    }
  }
}
