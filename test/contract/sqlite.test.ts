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

storeContract({
  test,
  open() {
    files += 1
    return new SqliteEventStore(path())
  },
  second: () => new SqliteEventStore(path()),
  async corrupt(sessionId, position) {
    const database = new Database(path())
    database
      .prepare(
        `UPDATE mcp_events SET payload = x'7bff'
         WHERE position = ? AND log_id = (SELECT id FROM mcp_logs WHERE session_id = ?)`,
      )
      .run(position, sessionId)
    database.close()
  },
})
