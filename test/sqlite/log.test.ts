import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, onTestFinished, test } from 'vitest'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { append, message, readAll, session } from '../../src/testing/support.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('a log whose positions have holes is counted now and then, and not at each append', async () => {
  const path = join(folder, 'sparse.db')
  const [store, other] = [new SqliteEventStore(path), new SqliteEventStore(path)]
  onTestFinished(() => Promise.all([store.close(), other.close()]).then(() => undefined))
  const generation = await store.sessions.create(session('s', 'node'))
  await append(store, 's', 'a', message(0), { generation })
  // From here on positions are microseconds: the difference of two says nothing.
  const claimed = (await store.sessions.claim('s', { owner: 'node', generation }))!
  const database = new Database(path)
  onTestFinished(() => void database.close())
  // Each count writes down when the next one is due.
  database.exec(`CREATE TABLE counts (x);
    CREATE TRIGGER counted AFTER UPDATE OF trim_at ON mcp_logs BEGIN INSERT INTO counts VALUES (1); END`)
  const limit = 100
  for (let i = 1; i <= 500; i++) {
    await append(store, 's', 'a', message(i), { generation: claimed.generation, limit })
    // Another process's write makes it forget what it knew.
    if (i % 5 === 0) await append(other, 'else', 'a', message(i))
    if (i % 50 === 0) {
      const events = await readAll(store, 's')
      assert.equal(events.at(-1)!.payload, message(i))
      assert.ok(
        events.length >= Math.min(i, limit) && events.length <= limit * 1.1 + 1,
        `${events.length} of ${i}`,
      )
    }
  }
  const { counts } = database.prepare('SELECT count(*) AS counts FROM counts').get() as { counts: number }
  assert.ok(counts > 0 && counts < 60, `it was counted ${counts} times`)
})

test('a call that ends in the append that opens it leaves no open stream, and writes none', async () => {
  const path = join(folder, 'quick.db')
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  const generation = await store.sessions.create(session('s', 'node'))
  const database = new Database(path)
  database.exec(
    `CREATE TRIGGER refuse BEFORE INSERT ON mcp_open_streams BEGIN SELECT RAISE(ABORT, 'no'); END`,
  )
  database.close()
  await store.log.append({
    sessionId: 's',
    generation,
    ttl: 60_000,
    events: [
      { streamId: 'a', kind: 'open', payload: '{}' },
      { streamId: 'a', kind: 'final', payload: '{}' },
    ],
  })
  const claimed = await store.sessions.claim('s', { owner: 'node', generation })
  assert.deepEqual(claimed?.open, [])
})

test('a session that lived for one call leaves one row, and nothing in it of whose it was', async () => {
  const path = join(folder, 'life.db')
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  const principal = 'https://issuer|somebody'
  const generation = await store.sessions.create({ ...session('s', 'node'), principal })
  const kinds = ['open', 'message', 'final'] as const
  const events = kinds.map((kind) => ({ streamId: 'a', kind, payload: 'secret' }))
  await store.log.append({ sessionId: 's', events, generation, ttl: 60_000 })
  await store.log.append({
    sessionId: 's',
    events: [{ ...events[0]!, streamId: 'b' }],
    generation,
    ttl: 60_000,
  })
  await store.sessions.terminate('s')
  assert.deepEqual(rows(path), { mcp_sessions: 1 })
  const database = new Database(path, { readonly: true })
  onTestFinished(() => void database.close())
  const {
    principal: whose,
    state,
    owner,
  } = database.prepare('SELECT * FROM mcp_sessions').get() as Record<string, unknown>
  assert.deepEqual({ whose, state, owner }, { whose: null, state: '', owner: null })
})

test('a long log is removed by the sweep, and ends at once all the same', async () => {
  const path = join(folder, 'long.db')
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  const generation = await store.sessions.create(session('s', 'node'))
  const events = Array.from(
    { length: 250 },
    () => ({ streamId: 'a', kind: 'message', payload: 'x' }) as const,
  )
  await store.log.append({ sessionId: 's', events, generation, ttl: 60_000 })
  await store.sessions.terminate('s')
  assert.equal(rows(path).mcp_events, 150)
  assert.equal((await store.sweep()).events, 150)
  assert.deepEqual(rows(path), { mcp_sessions: 1 })
})

test('text that is no UTF-8 is left out and counted; U+FFFD, a mark of order and NUL are text like any other', async () => {
  const path = join(folder, 'undecodable.db')
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  const payloads = ['damaged', 'a \uFFFD b', '\uFEFFmarked', 'nul \u0000 inside', 'lone \uD800']
  const events = payloads.map((payload) => ({ streamId: 'a', kind: 'message', payload }) as const)
  const { positions } = await store.log.append({ sessionId: 's', events, ttl: 60_000 })
  const database = new Database(path)
  onTestFinished(() => void database.close())
  const damage = "UPDATE mcp_events SET payload = CAST(x'7bff' AS TEXT) WHERE position = ?"
  database.prepare(damage).run(positions[0])
  for (const streamId of ['a', undefined]) {
    const stream = streamId === undefined ? {} : { streamId }
    const page = await store.log.read({ sessionId: 's', ...stream, after: 0, limit: 10 })
    assert.deepEqual([page.corrupt, page.scanned], [1, positions.at(-1)])
    assert.deepEqual(
      page.events.map(({ payload }) => payload),
      ['a \uFFFD b', '\uFEFFmarked', 'nul \u0000 inside', 'lone \uFFFD'],
    )
    assert.ok(page.events.every((event) => event.streamId === 'a' && event.kind === 'message'))
  }
})

test('events of a quiet stream are found without looking at the rows of the others', async () => {
  const path = join(folder, 'quiet.db')
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  const database = new Database(path)
  onTestFinished(() => void database.close())
  await store.ready()
  const plan = database
    .prepare(
      'EXPLAIN SELECT payload FROM mcp_events WHERE log_id = ? AND stream_id = ? AND position > ? ORDER BY position',
    )

    .all(1, 'quiet', 0) as { opcode: string; p1: number }[]
  const opcodes = plan.map(({ opcode }) => opcode)
  // It goes from the index to the row when it needs a column of the row, and the name that it compares is in the index.
  const seek = plan[opcodes.indexOf('DeferredSeek')]
  const name = plan[opcodes.indexOf('Ne') - 1]
  assert.deepEqual([name?.opcode, name?.p1], ['Column', seek?.p1], opcodes.join())
  assert.ok(!opcodes.includes('SorterOpen'))
})

/** How many there are in each table that has any. */
function rows(path: string): Record<string, number> {
  const database = new Database(path, { readonly: true })
  try {
    const tables = ['mcp_sessions', 'mcp_logs', 'mcp_events', 'mcp_open_streams']
    const count = (table: string) => database.prepare(`SELECT count(*) FROM ${table}`).pluck().get() as number
    return Object.fromEntries(tables.map((table) => [table, count(table)]).filter(([, rows]) => rows !== 0))
  } finally {
    database.close()
  }
}
