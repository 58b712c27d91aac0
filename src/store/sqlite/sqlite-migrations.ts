import type { AppliedMigration, Migration, MigrationTarget } from '../migrations/target.ts'
import type { Connection } from './sqlite-driver.ts'

const TABLE = `CREATE TABLE IF NOT EXISTS mcp_migrations (
  name       TEXT PRIMARY KEY,
  checksum   TEXT NOT NULL,
  applied_at INTEGER NOT NULL
) WITHOUT ROWID`
const APPLIED = 'SELECT name, checksum, applied_at AS appliedAt FROM mcp_migrations ORDER BY name'
const INSERT = 'INSERT INTO mcp_migrations (name, checksum, applied_at) VALUES (?,?,?) ON CONFLICT DO NOTHING'

type Use = <R>(task: (connection: Connection) => R) => Promise<R>

export class SqliteMigrations implements MigrationTarget {
  readonly dialect = 'sqlite'
  readonly #use: Use

  /** `use` repeats a task that another process's lock kept from being done. */
  constructor(use: Use) {
    this.#use = use
  }

  applied(): Promise<readonly AppliedMigration[]> {
    return this.#use((connection) => {
      const table = connection.prepare("SELECT 1 FROM sqlite_master WHERE name = 'mcp_migrations'").get()
      return table ? (connection.prepare(APPLIED).all() as AppliedMigration[]) : []
    })
  }

  apply(migration: Migration): Promise<boolean> {
    return this.#use((connection) => apply(connection, migration))
  }
}

function apply(connection: Connection, { name, checksum, sql }: Migration): boolean {
  connection.exec('BEGIN IMMEDIATE')
  try {
    connection.exec(TABLE)
    const won = connection.prepare(INSERT).run(name, checksum, Date.now()).changes === 1
    if (won) connection.exec(sql)
    connection.exec('COMMIT')
    return won
  } catch (error) {
    if (connection.inTransaction) connection.exec('ROLLBACK')
    throw error
  }
}
