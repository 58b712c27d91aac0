import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import Database from 'better-sqlite3'
import { afterAll, onTestFinished, test } from 'vitest'
import { PersistError } from '../../src/errors.ts'
import { explain } from '../../src/store/sqlite/sqlite-errors.ts'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { append, message, payloads, rejectsWith, session } from '../../src/testing/support.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => assert.fail('it succeeded'),
    (error) => error,
  )
  assert.ok(error instanceof PersistError)
  return `${error.code}: ${error.message.replaceAll(folder, '')}`
}

test('a locked file: refused after the timeout, the event loop free meanwhile, and well again afterwards', async () => {
  const path = join(folder, 'locked.db')
  const store = new SqliteEventStore({ path, timeout: 300 })
  await append(store, 's', 'a', message(1))
  const other = new Database(path)
  other.exec('BEGIN IMMEDIATE')
  let turns = 0
  const timer = setInterval(() => {
    turns += 1
  }, 5)
  const blocked = append(store, 's', 'a', message('refused'))
  assert.deepEqual(await payloads(store, 's'), [message(1)], 'readers do not wait for writers')
  assert.equal(
    await failure(blocked),
    'STORE_UNAVAILABLE: The database /locked.db stayed locked by another process; try again.',
  )
  clearInterval(timer)
  assert.ok(turns >= 5, `the event loop turned ${turns} times`)
  const waiting = append(store, 's', 'a', message(2))
  await payloads(store, 's')
  other.exec('ROLLBACK')
  other.close()
  await waiting
  assert.deepEqual(await payloads(store, 's'), [message(1), message(2)])
  await store.close()
})

test('what is not a database, a folder, a missing folder: one sentence each, and well again afterwards', async () => {
  const path = join(folder, 'text.db')
  writeFileSync(path, 'This is a text and no database. '.repeat(100))
  const store = new SqliteEventStore(path)
  assert.equal(
    await failure(store.ready()),
    'STORE_CORRUPT: The file /text.db is not an SQLite database; check the path.',
  )
  const { ok, error } = await store.health()
  assert.deepEqual([ok, error?.includes('is not an SQLite database')], [false, true])
  rmSync(path)
  await append(store, 's', 'a', message(1))
  await store.close()

  mkdirSync(join(folder, 'folder.db'))
  const cannot = 'cannot be opened; check that its folder exists and that it is a file you may write to.'
  writeFileSync(join(folder, 'file'), 'x')
  for (const name of ['folder.db', 'missing/mcp.db', 'file/mcp.db']) {
    const wrong = new SqliteEventStore(join(folder, name))
    assert.equal(
      await failure(append(wrong, 's', 'a', 'x')),
      `INVALID_ARGUMENT: The database /${name} ${cannot}`,
    )
    await wrong.close()
  }
})

test('a damaged file says so', async () => {
  const path = join(folder, 'damaged.db')
  const store = new SqliteEventStore(path)
  for (let i = 0; i < 200; i++) await append(store, 's', 'a', message('x'.repeat(500)))
  await store.close()
  const file = openSync(path, 'r+')
  for (let page = 2; page < 40; page++) writeSync(file, Buffer.alloc(4000, 0x5a), 0, 4000, page * 4096)
  closeSync(file)
  const again = new SqliteEventStore(path)
  assert.match(await failure(payloads(again, 's')), /^STORE_CORRUPT: The database \/damaged\.db is damaged /)
  await again.close()
})

test('a full disk and a file that may not be written to, as the driver reports them', () => {
  const database = new Database(join(folder, 'full.db'))
  database.exec('CREATE TABLE t (x)')
  database.pragma('max_page_count = 3')
  const full = attempt(() => database.prepare('INSERT INTO t VALUES (zeroblob(100000))').run())
  database.pragma('query_only = on')
  const readonly = attempt(() => database.prepare('INSERT INTO t VALUES (1)').run())
  database.close()
  assert.deepEqual(
    [full, readonly].map((error) => {
      const { code, message } = explain(error, 'mcp.db')
      return `${code}: ${message}`
    }),
    [
      'STORE_READ_ONLY: The disk of the database mcp.db is full; make room.',
      'STORE_READ_ONLY: The database mcp.db cannot be written to (attempt to write a readonly database); check the permissions of the file and of its folder.',
    ],
  )
})

function attempt(task: () => unknown): unknown {
  try {
    task()
  } catch (error) {
    return error
  }
  return assert.fail('it succeeded')
}

test('an append that the file refuses fails alone in its batch', async () => {
  const path = join(folder, 'batch.db')
  const store = new SqliteEventStore(path)
  await store.ready()
  const database = new Database(path)
  database.exec(`CREATE TRIGGER refuse BEFORE INSERT ON mcp_events WHEN NEW.stream_id = 'bad'
    BEGIN SELECT RAISE(ABORT, 'no'); END`)
  database.close()
  const good = [1, 2, 3].map((i) => append(store, 's', 'a', message(i)))
  const bad = append(store, 's', 'bad', message('bad'))
  const also = [4, 5].map((i) => append(store, 's', 'a', message(i)))
  await rejectsWith('STORE_UNAVAILABLE', bad)
  const positions = await Promise.all([...good, ...also])
  assert.equal(new Set(positions).size, 5)
  assert.deepEqual(
    await payloads(store, 's'),
    [1, 2, 3, 4, 5].map((i) => message(i)),
  )
  await rejectsWith('STORE_UNAVAILABLE', append(store, 's', 'bad', message('bad')))
  assert.ok((await append(store, 's', 'a', message(6))) > Math.max(...positions))
  await store.close()
})

test('migrated for events only: the log works and is swept, everything else says what is missing', async () => {
  const path = join(folder, 'events-only.db')
  const store = new SqliteEventStore({ path, autoMigrate: 'events-only' })
  await append(store, 's', 'a', message(1))
  await append(store, 'short', 'a', message(1), { ttl: 1 })
  await store.forSession('s').storeEvent('b', { jsonrpc: '2.0' })
  const { sessions, nodes, events } = await store.stats()
  assert.deepEqual({ sessions, nodes, events }, { sessions: 0, nodes: 0, events: 3 })
  let swept = 0
  while (swept === 0) swept += (await store.sweep()).events
  assert.equal(swept, 1)
  const missing = (table: string) =>
    `NOT_MIGRATED: The database /events-only.db lacks a table (no such table: ${table}); run \`npx mcp-persist migrate --url sqlite:/events-only.db\`.`
  assert.equal(await failure(store.sessions.get('s')), missing('mcp_sessions'))
  assert.equal(await failure(store.sessions.create(session('s', 'node'))), missing('mcp_sessions'))
  assert.equal(await failure(store.nodes.get('node')), missing('mcp_nodes'))
  assert.equal(await failure(store.bus.publish('channel', 'text')), missing('mcp_wakeups'))
  assert.equal(await failure(store.taskStore().getTask('t')), missing('mcp_tasks'))
  await append(store, 's', 'a', message(2))
  await store.close()

  const full = new SqliteEventStore(path)
  assert.equal(await full.sessions.get('s'), undefined)
  assert.deepEqual(await payloads(full, 's', 'a'), [message(1), message(2)])
  await full.close()
})

test('not migrated, and not to be: it says which command to run', async () => {
  const store = new SqliteEventStore({ path: join(folder, 'bare.db'), autoMigrate: false })
  assert.equal(
    await failure(store.ready()),
    'NOT_MIGRATED: The database /bare.db lacks 0001_events, 0005_open_streams, 0007_one_index; run `npx mcp-persist migrate --url sqlite:/bare.db`.',
  )
  await store.close()
})

/** Opens a store in a process in which the driver is resolved as `body` says, and returns what it rejects with. */
function openWithDriver(body: string): string {
  const hook = `export async function resolve(specifier, context, next) {
    if (specifier !== 'better-sqlite3') return next(specifier, context)
    ${body}
  }`
  const asUrl = (source: string) => `data:text/javascript,${encodeURIComponent(source)}`
  const register = `import { register } from 'node:module'; register(${JSON.stringify(asUrl(hook))})`
  const store = new URL('../../src/store/sqlite/sqlite-store.ts', import.meta.url)
  const code = `const { SqliteEventStore } = await import('${store}')
    const store = new SqliteEventStore(':memory:')
    await store.ready().catch(({ code, message }) => console.log(code + ': ' + message))
    await store.close()`
  const args = ['--import', 'tsx', '--import', asUrl(register), '--input-type=module', '-e', code]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 })
  return stdout || stderr
}

test('without the driver: one sentence with the command that installs it', () => {
  assert.equal(
    openWithDriver("throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' })"),
    'DRIVER_MISSING: The package better-sqlite3 is not installed; run `npm install better-sqlite3`, which may compile for a minute or two.\n',
  )
})

test('a driver whose native part is missing, or of another Node: one sentence with the command that builds it', () => {
  const root = fileURLToPath(new URL('../../', import.meta.url))
  mkdirSync(join(root, '.tmp'), { recursive: true })
  // Inside the repository, from where the driver finds what it needs itself.
  const copy = mkdtempSync(join(root, '.tmp/broken-driver-'))
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }))
  for (const part of ['lib', 'package.json'])
    cpSync(join(root, 'node_modules/better-sqlite3', part), join(copy, part), { recursive: true })
  const driver = JSON.stringify(pathToFileURL(join(copy, 'lib/index.js')).href)
  const open = () => openWithDriver(`return next(${driver}, context)`)
  const way = /\); run `npm rebuild better-sqlite3` with the Node that runs this\.\n$/

  const without = open()
  assert.match(
    without,
    /^DRIVER_MISSING: The native part of better-sqlite3 cannot be loaded \(Could not locate/,
  )
  assert.match(without, way)

  mkdirSync(join(copy, 'build/Release'), { recursive: true })
  writeFileSync(join(copy, 'build/Release/better_sqlite3.node'), 'of another machine')
  const broken = open()
  assert.match(broken, /^DRIVER_MISSING: The native part of better-sqlite3 cannot be loaded \(/)
  assert.match(broken, way)
})
