import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, test } from 'vitest'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { storeContract } from '../../src/testing.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
const path = () => join(folder, `${files}.db`)

/** What `task` does with the file, in one transaction. */
function use<R>(task: (database: Database.Database) => R): R {
  const database = new Database(path(), { timeout: 5000 })
  database.pragma('foreign_keys = off')
  try {
    return database.transaction(() => task(database)).immediate()
  } finally {
    database.close()
  }
}

/** Every table as it is now; the function brings the rows back, as after a power cut. */
async function snapshot(): Promise<() => Promise<void>> {
  const kept = new Map<string, Record<string, unknown>[]>()
  use((database) => {
    const tables = database
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'mcp\\_%' ESCAPE '\\'")
      .pluck()
      .all() as string[]
    for (const table of tables.filter((name) => name !== 'mcp_migrations')) {
      kept.set(table, database.prepare(`SELECT * FROM ${table}`).all() as Record<string, unknown>[])
    }
  })
  return async () =>
    use((database) => {
      for (const [table, rows] of kept) {
        database.exec(`DELETE FROM ${table}`)
        for (const row of rows) {
          const names = Object.keys(row)
          const values = names.map((name) => row[name])
          database
            .prepare(`INSERT INTO ${table} (${names.join()}) VALUES (${names.map(() => '?').join()})`)
            .run(...values)
        }
      }
    })
}

storeContract({
  test,
  open() {
    files += 1
    return new SqliteEventStore(path())
  },
  second: () => new SqliteEventStore(path()),
  snapshot,
  parcels: {
    count: async () =>
      use((database) => database.prepare('SELECT count(*) FROM mcp_parcels').pluck().get() as number),
    age: async () => use((database) => void database.exec('UPDATE mcp_wakeups SET created_at = 0')),
  },
  async corrupt(sessionId, position) {
    use((database) =>
      database
        .prepare(
          `UPDATE mcp_events SET payload = x'7bff'
           WHERE position = ? AND log_id = (SELECT id FROM mcp_logs WHERE session_id = ?)`,
        )
        .run(position, sessionId),
    )
  },
})
