import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { program } from '../support/programs.ts'
import { type RedisService, startRedis } from '../support/services/redis.ts'

let server: RedisService
let admin: Redis
beforeAll(async () => {
  server = await startRedis()
  admin = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
  admin.on('error', () => {})
})
afterEach(async () => {
  // The server sees a closed socket a moment later.
  for (const deadline = performance.now() + 2_000; (await connections()) > 1; ) {
    assert.ok(performance.now() < deadline, `${await admin.client('LIST')}: a connection was left`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
})
afterAll(async () => {
  admin.disconnect()
  await server.stop()
})

async function connections(): Promise<number> {
  return ((await admin.client('LIST')) as string).trim().split('\n').length
}

const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const events = [{ streamId: 'a', kind: 'message', payload: 'm' }] as const

/** The sockets of this process. What else may keep one alive, the last test would find. */
function sockets(): number {
  return process.getActiveResourcesInfo().filter((each) => each.startsWith('TCP')).length
}

async function within(ms: number, what: Promise<unknown>): Promise<void> {
  const started = performance.now()
  await what
  assert.ok(performance.now() - started < ms, `it took ${performance.now() - started} ms`)
}

test('when it resolves, what was accepted is done, and no socket is left', async () => {
  const before = sockets()
  const store = new RedisEventStore({ url: server.url, keyPrefix: 'close:' })
  const heard: unknown[] = []
  await store.bus.receive('node', (message) => void heard.push(message))
  await store.bus.subscribe('c', (text) => void heard.push(text))
  await store.nodes.register({ id: 'node', publicKey: 'k', profile: '{}' }, 60_000)
  const generation = await store.sessions.create({
    id: 'kept',
    principal: null,
    owner: 'x',
    ttl: 60_000,
    state,
  })
  const accepted = [
    ...Array.from({ length: 50 }, (_, i) => store.log.append({ sessionId: `s${i}`, events, ttl: 60_000 })),
    store.tasks.create({ id: 't', sessionId: 's', value: 'v', ttl: 60_000 }),
    store.sessions.create({ id: 'made', principal: null, owner: 'node', ttl: 60_000, state }),
    store.sessions.list(),
    store.tasks.list({ sessionId: 's', limit: 10 }),
    store.transfer!.take({ sessionId: 'kept', after: 0, limit: 10 }),
    store.sessions.claim('kept', { owner: 'node', generation }),
    store.stats(),
    store.bus.send('node', Buffer.alloc(100_000)),
  ]
  const done = Promise.allSettled(accepted)
  const closing = store.close()
  assert.equal(store.close(), closing)
  const late = [
    store.ping(),
    store.log.read({ sessionId: 's', after: 0, limit: 1 }),
    store.bus.send('n', Buffer.of(1)),
  ]
  for (const outcome of await Promise.allSettled(late)) {
    assert.ok(outcome.status === 'rejected' && isPersistError(outcome.reason, 'STORE_CLOSED'))
  }
  await within(2_000, closing)
  assert.deepEqual(
    (await done).filter(({ status }) => status === 'rejected'),
    [],
  )
  assert.ok(sockets() <= before, 'a socket was left')
  assert.equal((await store.health()).error, 'The store is closed.')
})

test('before anything was used, it makes no connection', async () => {
  const store = new RedisEventStore({ url: server.url })
  await within(200, store.close())
  await assert.rejects(store.ready(), (error) => isPersistError(error, 'STORE_CLOSED'))
})

test('while a connection is being made, it leaves none', async () => {
  for (const pause of [0, 1, 3, 10]) {
    const store = new RedisEventStore({ url: server.url })
    const calls = [store.ready(), store.bus.subscribe('c', () => {}), store.bus.receive('n', () => {})]
    const settled = Promise.allSettled(calls)
    await new Promise((resolve) => setTimeout(resolve, pause))
    await within(2_000, store.close())
    await settled
  }
})

test('while Redis is away, it takes no longer than an operation may', async () => {
  const before = sockets()
  const store = new RedisEventStore({ url: 'redis://127.0.0.1:1', timeout: 500 })
  const calls = [store.ready(), store.bus.subscribe('c', () => {}), store.sessions.get('s')]
  const settled = Promise.allSettled(calls)
  await new Promise((resolve) => setTimeout(resolve, 100))
  await within(1_500, store.close())
  for (const { status } of await settled) assert.equal(status, 'rejected')
  assert.ok(sockets() <= before, 'a socket was left')
})

test('when the connection for wake-ups has just been lost, it is not made again', async () => {
  const store = new RedisEventStore({ url: server.url, keyPrefix: 'close:' })
  await store.bus.subscribe('c', () => {})
  await admin.call('client', 'kill', 'type', 'pubsub')
  await within(1_000, store.close())
  await new Promise((resolve) => setTimeout(resolve, 200))
})

test('a process that has closed its store ends by itself', async () => {
  const child = fork(program('redis/closing.ts'), [server.url])
  const late = setTimeout(() => child.kill('SIGKILL'), 15_000)
  const [code, signal] = await once(child, 'exit')
  clearTimeout(late)
  assert.deepEqual([code, signal], [0, null])
})
