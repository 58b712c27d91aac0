import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, onTestFinished, test } from 'vitest'
import { frameHead } from '../../src/store/sqlite/sqlite-frames.ts'
import { hello } from '../../src/store/sqlite/sqlite-sockets.ts'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'
import { MINUTE } from '../../src/testing/support.ts'
import { until, within } from '../support/wait.ts'
import { Child, type ChildOptions } from './child.ts'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const MIB = 1024 * 1024
let files = 0

/** A node in this process that talks to others through `say`, and remembers what it heard. */
async function node(path: string, id: string) {
  const store = new SqliteEventStore(path)
  onTestFinished(() => store.close())
  const heard: string[] = []
  await store.bus.receive(id, (message) => heard.push(message ? Buffer.from(message).toString() : 'missed'))
  await store.nodes.register({ id, publicKey: 'key', profile: '' }, MINUTE)
  const words = (text: string) => Buffer.from(`${id.padEnd(16)}${text}`)
  return {
    store,
    heard,
    say: (to: string, text: string) => store.bus.send(to, words(text)),
    /** Says it to a child that runs `echo`, and waits until it comes back. */
    async ask(to: string, text: string) {
      assert.equal(await store.bus.send(to, words(text)), true)
      await until(`${text} comes back`, () => heard.includes(words(text).toString()))
    },
  }
}

async function echo(path: string, id: string, options: Omit<ChildOptions, 'task'> = {}): Promise<Child> {
  const child = new Child({ task: 'echo', ...options }, path, id)
  onTestFinished(() => child.kill())
  await child.said('ready')
  return child
}

function fresh(): string {
  files += 1
  return join(folder, `${files}.db`)
}

function query<T>(path: string, sql: string): T {
  const database = new Database(path)
  const row = database.prepare(sql).get() as T
  database.close()
  return row
}

const carried = (path: string) =>
  query<{ count: number }>(path, 'SELECT count(*) AS count FROM mcp_parcels').count
const socketOf = (path: string, id: string) =>
  query<{ socket: string | null }>(path, `SELECT socket FROM mcp_nodes WHERE id = '${id}'`).socket

test('two processes with different temporary folders talk, and the file carries nothing', async () => {
  const path = fresh()
  const temporary = mkdtempSync(join(folder, 't'))
  const ours = await node(path, 'ours')
  await echo(path, 'theirs', { env: { TMPDIR: temporary } })
  for (const text of ['one', 'two', 'x'.repeat(3 * MIB)]) await ours.ask('theirs', text)
  assert.equal(carried(path), 0)
  assert.ok(socketOf(path, 'theirs')!.startsWith(temporary))
  assert.ok(!socketOf(path, 'ours')!.startsWith(temporary))
})

test('the socket of a node is for its user alone, and goes when the node does', async () => {
  const path = fresh()
  const { store } = await node(path, 'ours')
  const socket = socketOf(path, 'ours')!
  assert.ok(existsSync(socket))
  assert.equal(statSync(join(socket, '..')).mode & 0o777, 0o700)
  await store.close()
  assert.ok(!existsSync(socket))
})

test('another user’s process has no way to our socket: the file carries, both ways, and forgets', {
  skip: process.getuid?.() !== 0,
  timeout: 60_000,
}, async () => {
  const path = join(mkdtempSync(join(folder, 'shared')), 'mcp.db')
  const ours = await node(path, 'ours')
  chmodSync(folder, 0o755)
  chmodSync(join(path, '..'), 0o777)
  for (const end of ['', '-wal', '-shm']) chmodSync(path + end, 0o666)
  const temporary = mkdtempSync(join(folder, 'u'))
  chmodSync(temporary, 0o777)
  await echo(path, 'theirs', { uid: 65_534, env: { TMPDIR: temporary } })
  // We may enter any folder, and so our words go over its socket; its answers cannot.
  for (const text of ['one', 'two', 'x'.repeat(3 * MIB), '']) await ours.ask('theirs', text)
  assert.equal(carried(path), 4)
  const later = new SqliteEventStore({ path, clock: { now: () => Date.now() + 11_000 } })
  await later.sweep()
  assert.equal(carried(path), 0)
  await later.close()
})

test('without sockets, as on Windows, the file carries, and health says so', async () => {
  const path = fresh()
  const { getuid } = process
  process.getuid = undefined as never
  onTestFinished(() => {
    process.getuid = getuid!
  })
  const [one, two] = [await node(path, 'one'), await node(path, 'two')]
  assert.equal(await one.say('two', 'hello'), true)
  await until('it arrives', () => two.heard.length > 0)
  assert.deepEqual([two.heard, socketOf(path, 'two'), carried(path)], [['one             hello'], null, 1])
  const { warnings } = await one.store.health()
  assert.ok(warnings.some((warning) => /have no socket/.test(warning)))
})

test('a socket file that was deleted: who is connected goes on, who is not has the file', async () => {
  const path = fresh()
  const one = await node(path, 'one')
  await echo(path, 'theirs')
  await one.ask('theirs', 'before')
  rmSync(socketOf(path, 'theirs')!)
  await one.ask('theirs', 'still')
  assert.equal(carried(path), 0)
  const two = await node(path, 'two')
  await two.ask('theirs', 'by the file')
  assert.equal(carried(path), 1, 'the answer came over our own socket')
})

test('whoever answers in the place of a node, or does not answer, is not talked to', async () => {
  for (const answer of [(socket: Socket) => socket.resume().write(Buffer.alloc(64)), () => {}]) {
    const path = fresh()
    const [one, two] = [await node(path, 'one'), await node(path, 'two')]
    const socket = socketOf(path, 'two')!
    rmSync(socket)
    let heard = 0
    const imposter = createServer((connection) => {
      connection.on('data', (data) => {
        heard += data.length
      })
      answer(connection)
    })
    await new Promise<void>((resolve) => imposter.listen(socket, resolve))
    onTestFinished(() => void imposter.close())
    assert.equal(await one.say('two', 'secret'.repeat(100)), true)
    await until('it arrives', () => two.heard.length > 0)
    assert.equal(carried(path), 1)
    assert.ok(heard < 100, 'the imposter heard the greeting alone')
  }
})

test('a node that is stopped costs no more memory than the bound, and hears again when it goes on', {
  timeout: 90_000,
}, async () => {
  const path = fresh()
  const ours = await node(path, 'ours')
  const child = await echo(path, 'theirs')
  await ours.ask('theirs', 'before')
  child.signal('SIGSTOP')
  const before = process.memoryUsage().arrayBuffers
  for (let i = 0; i < 200; i++) {
    const text = `${i}`.padEnd(MIB, 'x')
    assert.equal(await within('a send', ours.say('theirs', text), 5_000), true)
  }
  const grown = process.memoryUsage().arrayBuffers - before
  assert.ok(grown < 110 * MIB, `${grown} bytes wait`)
  assert.equal(carried(path), 0)
  child.signal('SIGCONT')
  await ours.ask('theirs', 'after')
})

test('a node that is stopped before it was first talked to gets its message from the file', async () => {
  const path = fresh()
  const ours = await node(path, 'ours')
  const child = await echo(path, 'theirs')
  child.signal('SIGSTOP')
  assert.equal(await within('a send', ours.say('theirs', 'hello'), 5_000), true)
  assert.equal(await within('a send', ours.say('theirs', 'again'), 400), true)
  child.signal('SIGCONT')
  await until('both come back', () => ours.heard.length === 2)
})

test('a node that was killed is gone at once for whoever talks to it, and its socket goes with the sweep', async () => {
  const path = fresh()
  const ours = await node(path, 'ours')
  const child = await echo(path, 'theirs')
  await ours.ask('theirs', 'before')
  const socket = socketOf(path, 'theirs')!
  await child.kill()
  await until('it is known', async () => !(await ours.say('theirs', 'after')), 2_000)
  assert.ok(existsSync(socket))
  await ours.store.sweep()
  assert.ok(!existsSync(socket))
})

test('a socket whose process died before it registered goes when it is old', async () => {
  const path = fresh()
  const { store } = await node(path, 'ours')
  const elsewhere = fresh()
  const child = await echo(elsewhere, 'theirs')
  const orphan = socketOf(elsewhere, 'theirs')!
  await child.kill()
  for (const socket of [orphan, socketOf(path, 'ours')!]) utimesSync(socket, 1, 1)
  // Others have sockets in that folder too, and a sweep looks at some of them.
  await until('it is gone', async () => {
    await store.sweep()
    return !existsSync(orphan)
  })
  assert.ok(existsSync(socketOf(path, 'ours')!), 'one at which somebody listens stays')
})

test('a temporary folder that others may enter is not used', async () => {
  const path = fresh()
  const temporary = mkdtempSync(join(folder, 'p'))
  mkdirSync(join(temporary, `mcp-persist-${process.getuid!()}`), { mode: 0o755 })
  const ours = await node(path, 'ours')
  await echo(path, 'theirs', { env: { TMPDIR: temporary } })
  assert.ok(!socketOf(path, 'theirs')?.startsWith(temporary))
  await ours.ask('theirs', 'hello')
})

test('a connection that breaks: whole messages are heard, of half a one it is said that something may be missing', async () => {
  const path = fresh()
  const ours = await node(path, 'ours')
  const whole = Buffer.concat([frameHead(5), Buffer.from('whole')])
  const words = Buffer.concat([hello('ours'), whole, whole])
  for (let length = 0; length <= words.length; length += 1) {
    ours.heard.length = 0
    const socket = connect(socketOf(path, 'ours')!)
    const ended = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
    socket.resume().end(words.subarray(0, length))
    await within('the end', ended)
    const messages = Math.floor(Math.max(0, length - hello('ours').length) / whole.length)
    const rest = Math.max(0, length - hello('ours').length) % whole.length
    const expected = [...Array(messages).fill('whole'), ...(rest > 0 ? ['missed'] : [])]
    await until(`${expected} after ${length} bytes`, () => ours.heard.length === expected.length)
    assert.deepEqual(ours.heard, expected)
  }
})

test('whoever means another node, or says what no node says, is hung up on', async () => {
  const path = fresh()
  const ours = await node(path, 'ours')
  const noise = [hello('another'), frameHead(2 ** 31), Buffer.concat([frameHead(3), Buffer.from('abc')])]
  for (const words of [...noise, Buffer.concat([hello('ours'), frameHead(2 ** 31)])]) {
    const socket = connect(socketOf(path, 'ours')!)
    const ended = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
    socket.resume().write(words)
    await within('the end', ended)
  }
  assert.deepEqual(
    ours.heard.filter((text) => text !== 'missed'),
    [],
  )
})
