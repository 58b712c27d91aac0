import type { AppliedMigration, Migration, MigrationTarget } from '../migrations/target.ts'
import type { Connection } from './sqlite-driver.ts'

const TABLE = `CREATE TABLE IF NOT EXISTS mcp_migrations (
  name       TEXT PRIMARY KEY,
  checksum   TEXT NOT NULL,
  applied_at INTEGER NOT NULL,
  compatible TEXT
) WITHOUT ROWID`
const COLUMN = "SELECT count(*) FROM pragma_table_info('mcp_migrations') WHERE name = 'compatible'"
const ADD_COLUMN = 'ALTER TABLE mcp_migrations ADD COLUMN compatible TEXT'
const INSERT = `INSERT INTO mcp_migrations (name, checksum, applied_at, compatible) VALUES (?,?,?,?)
  ON CONFLICT DO NOTHING`

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
      if (!table) return []
      const compatible = hasColumn(connection) ? 'compatible' : 'NULL AS compatible'
      const columns = `name, checksum, applied_at AS appliedAt, ${compatible}`
      return connection
        .prepare(`SELECT ${columns} FROM mcp_migrations ORDER BY name`)
        .all() as AppliedMigration[]
    })
  }

  apply(migration: Migration): Promise<boolean> {
    return this.#use((connection) => apply(connection, migration))
  }
}

function apply(connection: Connection, { name, checksum, compatible, sql }: Migration): boolean {
  connection.exec('BEGIN IMMEDIATE')
  try {
    connection.exec(TABLE)
    if (!hasColumn(connection)) connection.exec(ADD_COLUMN)
    const won = connection.prepare(INSERT).run(name, checksum, Date.now(), compatible).changes === 1
    if (won) connection.exec(withoutComments(sql))
    connection.exec('COMMIT')
    return won
  } catch (error) {
    if (connection.inTransaction) connection.exec('ROLLBACK')
    throw error
  }
}

/**
 * SQLite keeps a table's text as it was written. Older ones (3.49) take a comma in a comment for one between columns: what
 * DROP COLUMN leaves of the comment then swallows what comes next.
 */
function withoutComments(sql: string): string {
  return sql.replace(/^ *--.*\n/gm, '')
}

/** Release 0.1.0 made the table without it. */
function hasColumn(connection: Connection): boolean {
  return Object.values(connection.prepare(COLUMN).get() as object)[0] === 1
}
