import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { openStore } from 'mcp-persist'
import { Batch, type Form, message, port, type Setting, type Sweep } from './form.ts'

const TABLE = `CREATE TABLE events (id INTEGER PRIMARY KEY, session TEXT NOT NULL, payload TEXT NOT NULL);
  CREATE INDEX events_session ON events (session, id)`

export async function sqlite(durability: string): Promise<Setting> {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-bench-'))
  const path = join(folder, 'ours.db')
  const store = openStore(`sqlite:${path}?durability=${durability}`)
  await store.ready()
  const ours = new Database(path)
  const [floor, naive] = ['floor', 'naive'].map((name) => {
    const db = new Database(join(folder, `${name}.db`))
    db.pragma('journal_mode = WAL')
    db.pragma(`synchronous = ${durability}`)
    db.exec(TABLE)
    return db
  }) as [Database.Database, Database.Database]
  const { version } = floor.prepare('SELECT sqlite_version() AS version').get() as { version: string }
  return {
    backend: 'sqlite',
    title: `SQLite ${version}, WAL, synchronous=${durability}`,
    durability: `synchronous=${durability}`,
    store,
    forms: {
      ours: port(store, async () => size(ours), { records: true }),
      floor: batched(floor),
      naive: single(naive),
    },
    logs: port(store, async () => size(ours), { records: false }),
    sweeps: { floor: inSteps(ours), naive: atATime(ours) },
    left: async () => 0,
    async close() {
      await store.close()
      for (const db of [ours, floor, naive]) db.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

const EXPIRED = 'FROM expiring WHERE expires_at <= 0'

function expiring(db: Database.Database): Pick<Sweep, 'fill'> {
  return {
    async fill(events, perSession) {
      db.exec(`DROP TABLE IF EXISTS expiring;
        CREATE TABLE expiring (id INTEGER PRIMARY KEY, session TEXT NOT NULL, payload TEXT NOT NULL, expires_at INTEGER NOT NULL);
        CREATE INDEX expiring_expires_at ON expiring (expires_at)`)
      const insert = db.prepare('INSERT INTO expiring (session, payload, expires_at) VALUES (?, ?, 0)')
      const all = db.transaction(() => {
        for (let i = 0; i < events; i += 1) insert.run(`dead-${Math.floor(i / perSession)}`, message())
      })
      all.immediate()
    },
  }
}

/** So many rows to a transaction, and no index but the one it looks by; others have their turn in between. */
function inSteps(db: Database.Database): Sweep {
  return {
    ...expiring(db),
    async run(step) {
      const remove = db.prepare(`DELETE FROM expiring WHERE id IN (SELECT id ${EXPIRED} LIMIT ?)`)
      let total = 0
      for (let gone = step; gone > 0; total += gone) {
        gone = remove.run(step).changes
        await turn()
      }
      return total
    },
  }
}

function atATime(db: Database.Database): Sweep {
  return { ...expiring(db), run: async () => db.prepare(`DELETE ${EXPIRED}`).run().changes }
}

/** One transaction for each turn of the event loop. */
function batched(db: Database.Database): Form {
  const insert = db.prepare('INSERT INTO events (session, payload) VALUES (?, ?)')
  const all = db.transaction((items: [string, string][]) => {
    for (const [session, payload] of items) insert.run(session, payload)
  })
  const batch = new Batch<[string, string]>((items) => all.immediate(items))
  return { append: (session, payload) => batch.add([session, payload]), ...reads(db, 'LIMIT 1') }
}

/** One transaction for each event; a replay reads its result whole. */
function single(db: Database.Database): Form {
  const insert = db.prepare('INSERT INTO events (session, payload) VALUES (?, ?)')
  return { append: async (session, payload) => void insert.run(session, payload), ...reads(db, '') }
}

function reads(db: Database.Database, limit: string): Omit<Form, 'append'> {
  const text = 'SELECT id, payload FROM events WHERE session = ? AND id > ? ORDER BY id'
  const [select, head] = [db.prepare(text), db.prepare(`${text} ${limit}`)]
  type Row = { id: number; payload: string }
  return {
    async read(session, after) {
      const rows = select.all(session, Number(after)) as Row[]
      return { payloads: rows.map(({ payload }) => payload), last: `${rows.at(-1)?.id ?? after}` }
    },
    first: async (session, after) => (head.all(session, Number(after)) as Row[])[0]?.payload,
    bytes: async () => size(db),
  }
}

function size(db: Database.Database): number {
  db.pragma('wal_checkpoint(TRUNCATE)')
  return statSync(db.name).size
}
