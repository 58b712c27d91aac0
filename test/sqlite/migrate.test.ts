import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { loadMigrations } from '../../src/store/migrations/load.ts'
import { applyMigrations, migrationStatus, planMigrations } from '../../src/store/migrations/migrate.ts'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
function fresh() {
  files += 1
  const path = join(folder, `${files}.db`)
  return { path, store: new SqliteEventStore({ path, autoMigrate: false }) }
}

const names = (migrations: readonly { name: string }[]) => migrations.map(({ name }) => name)
const ALL = loadMigrations('sqlite').map(({ name }) => name)

test('plan changes nothing and shows the SQL; apply applies once; status tells both', async () => {
  const { path, store } = fresh()
  const { applied, pending } = await planMigrations(store.migrations)
  assert.deepEqual([applied, names(pending)], [[], ALL])
  assert.match(pending[0]!.sql, /CREATE TABLE mcp_events/)
  const database = new Database(path)
  assert.deepEqual(database.prepare('SELECT name FROM sqlite_master').all(), [])

  const heard: string[] = []
  const done = await applyMigrations(store.migrations, { onApplied: ({ name }) => heard.push(name) })
  assert.deepEqual([names(done), heard], [ALL, ALL])
  assert.deepEqual(await applyMigrations(store.migrations), [])
  const status = await migrationStatus(store.migrations)
  assert.deepEqual(names(status), ALL)
  for (const { appliedAt } of status) assert.ok(Math.abs(appliedAt! - Date.now()) < 60_000)
  // A comment in a table's text breaks DROP COLUMN in older releases of SQLite.
  assert.deepEqual(database.prepare("SELECT name FROM sqlite_master WHERE sql LIKE '%--%'").all(), [])
  database.close()
  await store.close()
})

test('events only: the rest stays pending and can follow later', async () => {
  const { store } = fresh()
  const events = ['0001_events', '0005_open_streams', '0007_one_index']
  assert.deepEqual(names(await applyMigrations(store.migrations, { eventsOnly: true })), events)
  assert.deepEqual((await planMigrations(store.migrations, { eventsOnly: true })).pending, [])
  const [, sessions] = await migrationStatus(store.migrations)
  assert.equal(sessions!.appliedAt, undefined)
  const rest = ALL.filter((name) => !events.includes(name))
  assert.deepEqual(names(await applyMigrations(store.migrations)), rest)
  await store.close()
})

test('many that migrate one file at once: each migration is applied by exactly one', async () => {
  const path = join(folder, 'race.db')
  const stores = Array.from({ length: 20 }, () => new SqliteEventStore({ path, autoMigrate: false }))
  const applied = await Promise.all(stores.map(({ migrations }) => applyMigrations(migrations)))
  assert.deepEqual(names(applied.flat()).sort(), ALL)
  for (const store of stores) await store.close()
})

test('a migration that fails leaves nothing behind', async () => {
  const { path, store } = fresh()
  const [first] = loadMigrations('sqlite')
  const broken = { ...first!, name: '0009_broken', sql: 'CREATE TABLE half (x); CREATE TABLE half (x);' }
  await assert.rejects(applyMigrations(store.migrations, { migrations: [broken] }), /half already exists/)
  const database = new Database(path)
  assert.deepEqual(database.prepare('SELECT name FROM sqlite_master').all(), [])
  database.close()
  assert.deepEqual(names(await applyMigrations(store.migrations)), ALL)
  await store.close()
})

test('a database of a newer release, and one whose migration was edited, are refused', async () => {
  for (const [change, code, sentence] of [
    [
      "INSERT INTO mcp_migrations VALUES ('0099_future', 'x', 0, NULL)",
      'SCHEMA_TOO_NEW',
      'The database has migration 0099_future, which this release of mcp-persist does not know; upgrade the package.',
    ],
    [
      "UPDATE mcp_migrations SET checksum = 'x' WHERE name = '0001_events'",
      'MIGRATION_CHANGED',
      'Migration 0001_events was applied with other contents than its file has now; reinstall mcp-persist.',
    ],
  ] as const) {
    const { path, store } = fresh()
    await applyMigrations(store.migrations)
    const database = new Database(path)
    database.exec(change)
    database.close()
    const refused = (error: unknown) => isPersistError(error, code) && error.message === sentence
    await assert.rejects(migrationStatus(store.migrations), refused)
    await assert.rejects(store.ready(), refused)
    const { ok, error } = await store.health()
    assert.deepEqual([ok, error], [false, sentence])
    await store.close()
    const other = new SqliteEventStore(path)
    await assert.rejects(other.ready(), refused)
    await other.close()
  }
})

test('beside a later migration that says so this release goes on, whether it runs already or starts again', async () => {
  const { path, store } = fresh()
  await applyMigrations(store.migrations)
  const append = (to: SqliteEventStore) =>
    to.log.append({
      sessionId: 's',
      events: [{ streamId: 'a', kind: 'message', payload: '{}' }],
      ttl: 60_000,
    })
  await append(store)
  const later = {
    ...loadMigrations('sqlite').at(-1)!,
    name: '0099_future',
    compatible: ALL.at(-1)!.slice(0, 4),
  }
  await applyMigrations(store.migrations, {
    migrations: [
      ...loadMigrations('sqlite'),
      { ...later, checksum: 'x', sql: 'ALTER TABLE mcp_events ADD COLUMN later TEXT' },
    ],
  })
  await append(store)
  await store.close()
  const again = new SqliteEventStore(path)
  await append(again)
  const { ok, migrations } = await again.health()
  assert.deepEqual([ok, migrations?.newer, migrations?.pending], [true, ['0099_future'], []])
  await again.close()
})

test('a log of the release before: what is open in it is open, and what has ended is not', async () => {
  const { path, store } = fresh()
  const old = loadMigrations('sqlite').filter(({ name }) => name < '0005')
  await applyMigrations(store.migrations, { migrations: old })
  await store.close()
  const database = new Database(path)
  const later = Date.now() + 60_000
  const state = JSON.stringify({ initialize: '{}', protocolVersion: '2025-11-25' })
  database.exec(`INSERT INTO mcp_logs VALUES (1, 's', 'epoch123', 0, 7, ${later}, ${later});
    INSERT INTO mcp_sessions (id, state, owner, created_at, last_used_at, ttl, log_id, sweep_at)
      VALUES ('s', '${state}', NULL, 1, 1, 60000, 1, ${later})`)
  const insert = database.prepare(`INSERT INTO mcp_events VALUES (1, ?, ?, ?, ?, ${later})`)
  for (const [i, [stream, kind, payload]] of [
    ['twice', 'open', 'first'],
    ['ended', 'open', 'x'],
    ['once', 'open', 'only'],
    ['ended', 'message', 'x'],
    ['ended', 'final', 'x'],
    ['twice', 'open', 'second'],
    ['once', 'message', 'x'],
    ['again', 'open', 'x'],
    ['again', 'end', ''],
    ['again', 'open', 'after its end'],
  ].entries()) {
    insert.run(stream, i + 1, kind, payload)
  }
  database.close()
  const upgraded = new SqliteEventStore(path)
  const claimed = await upgraded.sessions.claim('s', { owner: 'node', generation: 7 })
  assert.deepEqual(claimed?.open, [
    { streamId: 'twice', payload: 'second', runs: 2 },
    { streamId: 'once', payload: 'only', runs: 1 },
    { streamId: 'again', payload: 'after its end', runs: 1 },
  ])
  await upgraded.close()
})
