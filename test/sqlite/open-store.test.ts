import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterAll, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { openStore } from '../../src/store/open-store.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-open-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const stores: Record<string, string> = {
  'memory:': 'memory',
  'sqlite::memory:': 'sqlite',
  'SQLITE::memory:': 'sqlite',
  'sqlite::memory:?durability=full&ttl=60&timeout=100': 'sqlite',
  'redis://localhost:1': 'redis',
  'rediss://:secret@localhost:1/2?keyPrefix=a': 'redis',
  'redis+cluster://a:1,b:2?ttl=60': 'redis',
  'redis+sentinel://a:1,b:2/master': 'redis',
  'postgres://user:secret@localhost:1/database?schema=a&ttl=60': 'postgres',
  'postgresql://localhost/database?sslmode=require': 'postgres',
}

for (const [url, backend] of Object.entries(stores)) {
  test(`openStore('${url}') is a ${backend} store that opens nothing yet`, async () => {
    const store = openStore(url)
    assert.equal(store.backend, backend)
    await store.close()
  })
}

const mistakes: Record<string, string> = {
  '': "The store URL '' is empty; write for example sqlite:mcp.db.",
  'mcp.db': "The store URL 'mcp.db' lacks a scheme; for a file write sqlite:mcp.db.",
  '/var/lib/mcp.db':
    "The store URL '/var/lib/mcp.db' lacks a scheme; for a file write sqlite:/var/lib/mcp.db.",
  'C:\\mcp.db': "The store URL 'C:\\mcp.db' lacks a scheme; for a file write sqlite:C:\\mcp.db.",
  ':memory:': "The store URL ':memory:' lacks its scheme; write sqlite::memory:.",
  'sqlite:': "The store URL 'sqlite:' lacks a path; write sqlite:mcp.db.",
  'sqlite:?ttl=1': "The store URL 'sqlite:' lacks a path; write sqlite:mcp.db.",
  'sqlite//mcp.db': "The store URL 'sqlite//mcp.db' lacks the colon after sqlite.",
  'sqlite://mcp.db':
    "The store URL 'sqlite://mcp.db' has no host to name; write sqlite:mcp.db, or sqlite:///mcp.db for an absolute path.",
  'sqlite3:mcp.db': "The store URL 'sqlite3:mcp.db' begins with sqlite3:, and sqlite: is meant.",
  'sqlite:mcp.db?ttl=soon':
    "The store URL 'sqlite:mcp.db?ttl=soon' says ttl=soon, and that must be a positive number.",
  'sqlite:mcp.db?durable=yes':
    "The store URL 'sqlite:mcp.db?durable=yes' has the unknown parameter durable; known are ttl, timeout, durability.",
  'sqlite:mcp.db?durability=most': "durability is 'normal' or 'full', not 'most'.",
  'postgre://user:secret@host/db':
    "The store URL 'postgre://user:***@host/db' begins with postgre:, and postgres: is meant.",
  'https://example.com':
    "The store URL 'https://example.com' is the address of a web server; a store is for example sqlite:mcp.db.",
  'mysql://root:secret@host/db':
    "The store URL 'mysql://root:***@host/db' has the unknown scheme mysql; known are memory, sqlite, redis, rediss, rediss+cluster, rediss+sentinel, redis+cluster, redis+sentinel, postgres, postgresql.",
}

for (const [url, sentence] of Object.entries(mistakes)) {
  test(`openStore('${url}') says what is wrong`, () => {
    assert.throws(
      () => openStore(url),
      (error) => isPersistError(error, 'INVALID_ARGUMENT') && error.message === sentence,
    )
  })
}

test('openStore: a path may be relative or absolute, and nothing is created before the first use', async () => {
  for (const url of [
    `sqlite:${relative('.', join(folder, 'a.db'))}`,
    `sqlite:${folder}/b.db`,
    `sqlite://${folder}/c.db`,
  ]) {
    const before = readdirSync(folder).length
    const store = openStore(url)
    assert.equal(readdirSync(folder).length, before)
    await store.ready()
    await store.close()
    assert.equal(readdirSync(folder).length, before + 1, 'one file, and no -wal is left')
  }
  assert.deepEqual(readdirSync(folder).sort(), ['a.db', 'b.db', 'c.db'])
})

test('openStore: `readonly` creates nothing and changes nothing', async () => {
  const missing = openStore(`sqlite:${folder}/missing.db`, { readonly: true })
  await assert.rejects(missing.ready(), (error) => isPersistError(error, 'STORE_UNAVAILABLE'))
  const { ok, error } = await missing.health()
  assert.equal(ok, false)
  assert.match(error!, /missing\.db cannot be opened/)
  await missing.close()
  assert.ok(!readdirSync(folder).includes('missing.db'))

  const writer = openStore(`sqlite:${folder}/a.db`)
  await writer.forSession('s').storeEvent('a', { jsonrpc: '2.0', method: 'x' })
  const reader = openStore(`sqlite:${folder}/a.db`, { readonly: true })
  assert.equal((await reader.stats()).events, 1)
  const write = reader.forSession('s').storeEvent('a', { jsonrpc: '2.0', method: 'y' })
  await assert.rejects(write, (error) => isPersistError(error, 'STORE_READ_ONLY'))
  assert.equal((await reader.stats()).events, 1)
  await reader.close()
  await writer.close()
})
