import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { loadMigrations } from '../../src/store/migrations/load.ts'
import { nodeChannel } from '../../src/store/port.ts'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { eventually } from '../../src/testing/support.ts'
import {
  assertClean,
  fails,
  fill,
  folders,
  json,
  message,
  needsBuild,
  run,
  SECRET,
  withStore,
} from './support.ts'

needsBuild()
const folder = folders()
const fresh = () => `sqlite:${join(folder(), 'mcp.db')}`
const file = (url: string) => url.slice('sqlite:'.length)
const MIGRATIONS = loadMigrations('sqlite')
const ALL = MIGRATIONS.map(({ name }) => name)
const EVENTS = MIGRATIONS.filter(({ part }) => part === 'events').map(({ name }) => name)
const REST = ALL.filter((name) => !EVENTS.includes(name))

test('wrong usage and configuration: exit 2, one sentence', async () => {
  await Promise.all([
    fails(['stats'], 2, /No store is named; give --url or set MCP_PERSIST_URL/),
    fails(['stats', '--url', 'mcp.db'], 2, /write sqlite:mcp\.db/),
    fails([`redis://u:${SECRET}@host`], 2, /unknown command 'redis:\/\/u:\*\*\*@host'/),
    fails(['stats', '--url', `postgres://u:${SECRET}/x@host/db`], 2, /postgres:\/\/u:\*\*\*@host/),
    fails(['stats', '--url', `redis://u:${SECRET}@host/0?nonsense=1`], 2, /unknown parameter nonsense/),
    fails(['sessions', 'list', '--limit', '0'], 2, /whole number above 0/),
    fails(['copy', '--from', 'sqlite:a.db'], 2, /required option '--to <url>'/),
    fails(['copy', '--from', 'sqlite:a.db', '--to', 'sqlite:a.db'], 2, /the same store/),
    fails(['migrate', '--schema', 'x', '--url', 'sqlite:a.db'], 2, /--schema is for PostgreSQL/),
  ])
  const { error } = await json(['stats', '--bogus'], 2)
  assert.deepEqual(error, { code: 'INVALID_ARGUMENT', message: "unknown option '--bogus'" })
  assert.equal((await run([])).code, 2)
  assert.equal((await run(['--help'])).code, 0)
})

test('a mistyped path is a failure and is not created', async () => {
  const path = folder()
  const url = `sqlite:${join(path, 'typo.db')}`
  const commands = [['stats'], ['sessions', 'terminate', 's'], ['events', 's', '--follow'], ['sweep']]
  await Promise.all(
    commands.map((command) => fails([...command, '--url', url], 1, /There is no database .*typo\.db/)),
  )
  await fails(['copy', '--from', url, '--to', `sqlite:${join(path, 'copy.db')}`], 1, /There is no database/)
  const { ok, checks } = await json(['doctor', '--url', url], 1)
  assert.equal(ok, false)
  assert.match(JSON.stringify(checks), /There is no database/)
  for (const looks of [['migrate', '--status'], ['config']]) {
    assert.equal((await run([...looks, '--url', url])).code, 0)
  }
  assert.deepEqual(readdirSync(path), [])
})

test('doctor: a good store, an empty file, no database at all; it changes nothing', async () => {
  const path = folder()
  const url = `sqlite:${join(path, 'mcp.db')}`
  await withStore(url, fill)
  writeFileSync(join(path, 'empty.db'), '')
  writeFileSync(join(path, 'text.db'), 'This is a text and no database. '.repeat(100))
  const contents = () =>
    Object.fromEntries(
      readdirSync(path).map((name) => [
        name,
        createHash('sha256')
          .update(readFileSync(join(path, name)))
          .digest('hex'),
      ]),
    )
  const before = contents()
  const { env: _env, ...good } = await json(['doctor', '--url', url])
  assert.deepEqual([good.ok, good.backend], [true, 'sqlite'])
  const outcome = await run(['doctor'], { env: { MCP_PERSIST_URL: url } })
  assert.equal(outcome.code, 0)
  assert.match(outcome.stdout, /✓ connection: SQLite \d/)
  assert.ok(outcome.stdout.includes(`\n✓ schema: ${ALL.join(', ')}\n`), outcome.stdout)
  assertClean(outcome)
  for (const [name, sentence] of [
    ['empty.db', /mcp-persist migrate/],
    ['text.db', /is not an SQLite database/],
  ] as const) {
    const bad = await run(['doctor', '--url', `sqlite:${join(path, name)}`])
    assert.equal(bad.code, 1)
    assert.match(bad.stdout, /✗/)
    assert.match(bad.stdout, sentence)
    assertClean(bad)
  }
  assert.deepEqual(contents(), before)
})

test('migrate: applied once, status, dry run, events only', async () => {
  const url = fresh()
  const dry = await run(['migrate', '--dry-run', '--url', url])
  assert.match(
    dry.stdout,
    /^-- 0001_events\n[\s\S]*CREATE TABLE mcp_logs[\s\S]*-- 0002_sessions\n[\s\S]*CREATE TABLE mcp_sessions/,
  )
  const only = await json(['migrate', '--dry-run', '--events-only', '--url', url])
  assert.deepEqual(
    (only.pending as { name: string }[]).map(({ name }) => name),
    EVENTS,
  )
  assert.deepEqual(await json(['migrate', '--events-only', '--url', url]), { applied: EVENTS })
  const status = await run(['migrate', '--status', '--url', url])
  assert.match(status.stdout, /0001_events +events +\d{4}-[\s\S]*0002_sessions +sessions +pending/)
  const { warnings } = await json(['doctor', '--url', url])
  assert.ok(String(warnings).includes(`Pending: ${REST.join(', ')}`))
  const rest = await run(['migrate', '--url', url])
  assert.deepEqual([rest.code, rest.stdout], [0, REST.map((name) => `applied ${name}\n`).join('')])
  assert.deepEqual(await json(['migrate', '--url', url]), { applied: [] })
})

test('migrate: a database of a newer release, and a changed file, are refused', async () => {
  for (const [change, sentence] of [
    ["INSERT INTO mcp_migrations VALUES ('0099_future', 'x', 0, NULL)", /0099_future.*upgrade the package/],
    ["UPDATE mcp_migrations SET checksum = 'x'", /other contents than its file has now/],
  ] as const) {
    const url = fresh()
    await withStore(url, (store) => store.ready())
    const database = new Database(file(url))
    database.exec(change)
    database.close()
    const [, , doctor] = await Promise.all([
      fails(['migrate', '--url', url], 1, sentence),
      fails(['migrate', '--status', '--url', url], 1, sentence),
      run(['doctor', '--url', url]),
    ])
    assert.equal(doctor.code, 1)
    assert.match(doctor.stdout, sentence)
  }
})

test('migrate: twenty processes at once', async () => {
  const url = fresh()
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, () => run(['migrate', '--json', '--url', url])),
  )
  for (const outcome of outcomes) assert.deepEqual([outcome.code, outcome.stderr], [0, ''])
  const applied = outcomes.flatMap(({ stdout }) => (JSON.parse(stdout) as { applied: string[] }).applied)
  assert.deepEqual(applied.sort(), ALL)
})

test('stats and sessions', async () => {
  const url = fresh()
  await withStore(url, fill)
  const { bytes, ...counts } = await json(['stats', '--url', url])
  assert.deepEqual(counts, { backend: 'sqlite', sessions: 2, events: 5, nodes: 1 })
  assert.ok((bytes as number) > 0)
  const first = await json(['sessions', 'list', '--limit', '1', '--url', url])
  assert.deepEqual([(first.sessions as { id: string }[])[0]!.id, first.next], ['one', 'one'])
  const second = await json(['sessions', 'list', '--cursor', 'one', '--url', url])
  assert.deepEqual(
    [(second.sessions as { id: string }[]).map(({ id }) => id), second.next],
    [['two'], undefined],
  )
  const alice = await run(['sessions', 'list', '--principal', 'alice', '--url', url])
  assert.match(alice.stdout, /^SESSION +PRINCIPAL.*\none +alice +node-1 +\d{4}-\S+Z +\d{4}-\S+Z\n$/)
  const shown = await json(['sessions', 'show', 'one', '--url', url])
  expect(shown).toMatchObject({ id: 'one', principal: 'alice', delivered: 1, log: { floor: 0, last: 4 } })
  assert.match((await run(['sessions', 'show', 'one', '--url', url])).stdout, /protocol +2025-11-25/)
  await fails(['sessions', 'show', 'nobody', '--url', url], 1, /There is no session nobody/)
})

test('sessions terminate: a tombstone, and the owner is told', async () => {
  const url = fresh()
  await withStore(url, async (store) => {
    await fill(store)
    const heard: (string | undefined)[] = []
    await store.bus.subscribe(nodeChannel('node-1'), (text) => heard.push(text))
    assert.deepEqual(await json(['sessions', 'terminate', 'one', '--url', url]), {
      id: 'one',
      terminated: true,
      owner: 'node-1',
    })
    await eventually('the owner hears of it', () => heard.includes(JSON.stringify({ terminated: 'one' })))
    assert.equal(await store.sessions.get('one'), undefined)
    await fails(['sessions', 'terminate', 'one', '--url', url], 1, /There is no session one/)
  })
})

test('events: positions, streams, kinds, sizes; payloads cut, or whole', async () => {
  const url = fresh()
  await withStore(url, fill)
  const listed = await json(['events', 'one', '--url', url])
  const events = listed.events as {
    position: number
    stream: string
    payload: string
    truncated: boolean
    bytes: number
  }[]
  assert.deepEqual(
    events.map(({ position, stream, truncated }) => [position, stream, truncated]),
    [1, 2, 3, 4].map((position) => [position, position === 4 ? 'post 1' : '_GET_stream', position === 4]),
  )
  const whole = JSON.stringify(message('ž🐎\u0000'.repeat(100)))
  assert.equal(events[3]!.bytes, Buffer.byteLength(whole))
  const full = await json(['events', 'one', '--full', '--after', '3', '--url', url])
  assert.equal((full.events as { payload: string }[])[0]!.payload, whole)
  const stream = await json(['events', 'one', '--stream', '_GET_stream', '--limit', '2', '--url', url])
  assert.deepEqual([(stream.events as unknown[]).length, stream.more], [2, true])
  const text = await run(['events', 'one', '--limit', '1', '--url', url])
  assert.match(
    text.stdout,
    /^POSITION +STREAM.*\n1 +_GET_stream +message +\d+ +\{"jsonrpc"[^\n]*\nThere are more: --after 1\n$/,
  )
  await fails(['events', 'nobody', '--url', url], 1, /There is no log of session nobody/)
})

test('events --follow: new events as they come, one a line, until ctrl-C', async () => {
  const url = fresh()
  await withStore(url, async (store) => {
    await fill(store)
    let appended = false
    let stopped = false
    const outcome = await run(['events', 'one', '--follow', '--json', '--url', url], {
      onOutput(stdout, child) {
        const lines = stdout.split('\n').length - 1
        if (lines === 4 && !appended) {
          appended = true
          void store.forSession('one').storeEvent('_GET_stream', message('live'))
        }
        if (lines === 5 && !stopped) {
          stopped = true
          child.kill('SIGINT')
        }
      },
    })
    assert.deepEqual([outcome.code, outcome.stderr], [0, ''])
    const lines = outcome.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { position: number })
    assert.deepEqual(
      lines.map(({ position }) => position),
      [1, 2, 3, 4, 5],
    )
  })
})

test('events --follow ends with the session', async () => {
  const url = fresh()
  await withStore(url, async (store) => {
    await fill(store)
    let terminated = false
    const outcome = await run(['events', 'one', '--follow', '--url', url], {
      onOutput() {
        if (!terminated) void store.sessions.terminate('one')
        terminated = true
      },
    })
    assert.deepEqual([outcome.code, outcome.stderr], [0, ''])
  })
})

test('a reader that has seen enough is no error', async () => {
  const url = fresh()
  await withStore(url, async (store) => {
    const events = Array.from({ length: 1000 }, () => ({
      streamId: 'a',
      kind: 'message' as const,
      payload: 'x'.repeat(5000),
    }))
    await store.log.append({ sessionId: 's', events, ttl: 3_600_000 })
  })
  for (const flags of [['--full'], ['--follow', '--full']]) {
    const outcome = await run(['events', 's', ...flags, '--url', url], {
      onOutput: (_stdout, child) => child.stdout!.destroy(),
    })
    assert.deepEqual([outcome.code, outcome.stderr], [0, ''])
  }
})

test('sweep: a dry run says what would go, a sweep loops until it is done', async () => {
  const url = fresh()
  const hourAgo = { now: () => Date.now() - 3_600_000 }
  const old = new SqliteEventStore({ path: file(url), clock: hourAgo })
  for (const s of ['a', 'b', 'c']) {
    const events = Array.from({ length: 800 }, () => ({
      streamId: 'a',
      kind: 'message' as const,
      payload: '{}',
    }))
    await old.log.append({ sessionId: s, events, ttl: 60_000 })
  }
  await old.close()
  await withStore(url, fill)
  const gone = { events: 2400, sessions: 0, nodes: 0, more: false }
  assert.deepEqual(await json(['sweep', '--dry-run', '--url', url]), { dryRun: true, ...gone })
  const text = await run(['sweep', '--dry-run', '--url', url])
  assert.equal(text.stdout, 'Would delete 2,400 events, 0 sessions and 0 dead nodes.\n')
  assert.deepEqual(await json(['sweep', '--url', url]), { dryRun: false, ...gone })
  assert.deepEqual(await json(['sweep', '--url', url]), { dryRun: false, ...gone, events: 0 })
  assert.equal((await json(['stats', '--url', url])).events, 5)
})

test('config: resolved, masked, from the environment or the option', async () => {
  const { url, from, path } = await json(['config', '--url', 'sqlite:mcp.db?durability=full'])
  assert.deepEqual(
    [url, from, path],
    ['sqlite:mcp.db?durability=full', '--url', join(process.cwd(), 'mcp.db')],
  )
  const redis = await run(['config', '--json'], {
    env: { MCP_PERSIST_URL: `rediss://app:${SECRET}@h1:7000/2?keyPrefix=x:&timeout=100` },
  })
  assert.equal(redis.code, 0, redis.stderr)
  expect(JSON.parse(redis.stdout)).toMatchObject({
    from: 'MCP_PERSIST_URL',
    kind: 'single',
    addresses: 'h1:7000',
    database: 2,
    tls: true,
    user: 'app',
    password: '***',
    keyPrefix: 'x:',
  })
  assertClean(redis)
  const postgres = await run(['config', '--url', `postgres://app:${SECRET}@db/mcp?schema=s`])
  assert.match(postgres.stdout, /password +\*\*\*\nschema +s\n/)
  assertClean(postgres)
})
