import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { afterAll, onTestFinished, test } from 'vitest'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { append, MINUTE, message } from '../../src/testing/support.ts'
import { until } from '../support/wait.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function open(path: string): SqliteEventStore {
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  return store
}

const inFolder = (name: string) => mkdtempSync(join(folder, name))
const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)
const lockFiles = (path: string) => readdirSync(path).filter((name) => name.includes('-node-'))

function register(store: SqliteEventStore, id: string, lease = MINUTE) {
  return store.nodes.register({ id, publicKey: 'key', profile: '' }, lease)
}

test('a new database is for its owner alone, and so is all that lies beside it', async () => {
  const path = inFolder('new')
  const store = open(join(path, 'mcp.db'))
  await append(store, 's', 'a', message('secret'))
  await register(store, 'node')
  const files = readdirSync(path)
  assert.deepEqual(files.map((name) => name.replace(/-node-.*/, '-node')).sort(), [
    'mcp.db',
    'mcp.db-node',
    'mcp.db-shm',
    'mcp.db-wal',
  ])
  for (const name of files) assert.equal(modeOf(join(path, name)), '600', name)
})

test('a database that is there keeps its mode, and its nodes can be asked for by whoever may read it', async () => {
  const path = inFolder('old')
  writeFileSync(join(path, 'mcp.db'), '', { mode: 0o644 })
  const store = open(join(path, 'mcp.db'))
  await register(store, 'node')
  for (const name of readdirSync(path)) assert.equal(modeOf(join(path, name)), '644', name)
})

test('while another process holds the write lock, the event loop is free', async () => {
  const path = join(inFolder('lock'), 'mcp.db')
  const store = open(path)
  await append(store, 's', 'a', message(1))
  const other = new Database(path)
  onTestFinished(() => void other.close())
  other.exec('BEGIN IMMEDIATE')
  const waiting = append(store, 's', 'a', message(2))
  const before = performance.eventLoopUtilization()
  await sleep(2_000)
  const { utilization } = performance.eventLoopUtilization(before)
  other.exec('ROLLBACK')
  await waiting
  // Waiting inside SQLite it was 0.8.
  assert.ok(utilization < 0.4, `the event loop was busy for ${Math.round(utilization * 100)} % of the time`)
  // And then a short lock is waited for at once again.
  other.exec('BEGIN IMMEDIATE; ROLLBACK')
  await append(store, 's', 'a', message(3))
})

test('a -wal file that grew is cut when it begins anew', { timeout: 60_000 }, async () => {
  const path = join(inFolder('wal'), 'mcp.db')
  const store = open(path)
  await store.ready()
  const reader = new Database(path)
  onTestFinished(() => void reader.close())
  // Whoever reads an old state keeps the -wal file from beginning anew.
  reader.exec('BEGIN')
  reader.prepare('SELECT 1 FROM mcp_logs').all()
  for (let i = 0; i < 80; i++) await append(store, 's', 'a', 'x'.repeat(1024 * 1024))
  const size = () => statSync(`${path}-wal`).size
  assert.ok(size() > 70 * 1024 * 1024)
  reader.exec('COMMIT')
  await until('it is cut', async () => {
    await append(store, 's', 'a', 'x')
    return size() <= 64 * 1024 * 1024
  })
})

test('nothing of a node that came and went stays open', { skip: !existsSync('/proc/self/fd') }, async () => {
  const path = inFolder('peers')
  const file = join(path, 'mcp.db')
  const [watching, sweeping] = [open(file), open(file)]
  await register(watching, 'watching')
  assert.ok(await sweeping.nodes.get('watching'))
  const descriptors = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${file}-node-`)
      } catch {
        return false
      }
    }).length
  const atFirst = descriptors()
  for (let i = 0; i < 12; i++) {
    const peer = new SqliteEventStore(file)
    await register(peer, `peer-${i}`)
    assert.ok(await watching.nodes.get(`peer-${i}`))
    await peer.nodes.unregister(`peer-${i}`)
    await peer.close()
    await sweeping.sweep()
  }
  await watching.sweep()
  assert.equal(descriptors(), atFirst)
  assert.equal(lockFiles(path).length, 1)
})

for (const [how, end] of [
  ['learns it when it renews', (store: SqliteEventStore) => store.nodes.renew('lapsed', MINUTE)],
  ['unregisters', (store: SqliteEventStore) => store.nodes.unregister('lapsed')],
  ['sweeps', (store: SqliteEventStore) => store.sweep()],
] as const) {
  test(`a node whose lease was over and that ${how} lets its lock go`, async () => {
    const path = inFolder('lapsed')
    const file = join(path, 'mcp.db')
    const [store, other] = [open(file), open(file)]
    await register(store, 'lapsed', 50)
    await register(store, 'next')
    await until('the lease is over', async () => !(await other.nodes.get('lapsed')))
    await other.sweep()
    // Whoever sweeps removes the file; the descriptor is its owner's to close.
    await end(store)
    await until('it is closed', () => openFiles(file).length === 1)
    assert.equal(lockFiles(path).length, 1)
    assert.ok(await other.nodes.get('next'), 'the living keep theirs')
  })
}

/** Lock files of which this process holds a descriptor, deleted ones included. */
function openFiles(file: string): string[] {
  if (!existsSync('/proc/self/fd')) return ['unknown']
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return ''
    }
  })
  return [...new Set(targets.filter((target) => target.startsWith(`${file}-node-`)))]
}
