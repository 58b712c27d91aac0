import assert from 'node:assert/strict'
import { afterAll, afterEach, beforeAll, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import type { Append } from '../../src/store/port.ts'
import { calls, units } from '../../src/store/redis/redis-batch.ts'
import { RedisEventStore, type RedisEventStoreOptions } from '../../src/store/redis/redis-store.ts'
import { type RedisService, startRedis } from '../support/services/redis.ts'

const MIB = 1024 * 1024

let server: RedisService
let stopped = false
const stores: RedisEventStore[] = []

beforeAll(async () => {
  server = await startRedis()
})
afterEach(async () => {
  resume()
  await Promise.all(stores.splice(0).map((store) => store.close()))
})
afterAll(() => server.stop())

function open(options: Omit<RedisEventStoreOptions, 'client' | 'url'>): RedisEventStore {
  const store = new RedisEventStore({ url: server.url, ...options })
  stores.push(store)
  return store
}

/** The server takes what is sent to it, and answers nothing. */
function suspend(): void {
  process.kill(server.pid, 'SIGSTOP')
  stopped = true
}

function resume(): void {
  if (stopped) process.kill(server.pid, 'SIGCONT')
  stopped = false
}

/** How many of these were refused, and how many of the rest were served. */
async function outcomes(operations: Promise<unknown>[]) {
  const settled = await Promise.allSettled(operations)
  const refused = settled.filter(
    (outcome) => outcome.status === 'rejected' && isPersistError(outcome.reason, 'OVERLOADED'),
  )
  return { refused: refused.length, served: settled.filter(({ status }) => status === 'fulfilled').length }
}

function event(payload: string) {
  return [{ streamId: 'a', kind: 'message', payload }] as const
}

test('connected to a server that does not answer: no more operations than maxWaiting, but leases are renewed', async () => {
  const store = open({ maxWaiting: 100, keyPrefix: 'number:' })
  await store.nodes.register({ id: 'node', publicKey: 'k', profile: '{}' }, 60_000)
  const generation = await store.sessions.create({
    ...{ id: 's', principal: null, owner: 'node', ttl: 60_000 },
    state: { initialize: '{}', protocolVersion: '2025-11-25' },
  })
  suspend()
  const operations = Array.from({ length: 1_000 }, (_, i) => {
    if (i % 3 === 0) return store.sessions.get('s')
    return i % 3 === 1
      ? store.bus.send('node', Buffer.from('x'))
      : store.log.read({ sessionId: 's', after: 0, limit: 1 })
  })
  const vital = [
    store.nodes.renew('node', 60_000),
    store.sessions.touch([{ id: 's', generation }]),
    store.log.append({ sessionId: 's', events: event('x'), generation, ttl: 60_000 }),
  ]
  setTimeout(resume, 500)
  assert.deepEqual(await Promise.all([outcomes(operations), outcomes(vital)]), [
    { refused: 900, served: 100 },
    { refused: 0, served: 3 },
  ])
  assert.deepEqual(await outcomes([store.sessions.get('s')]), { refused: 0, served: 1 })
})

test('appends and messages that wait are bounded in bytes', async () => {
  const store = open({ keyPrefix: 'bytes:', timeout: 20_000 })
  await store.nodes.register({ id: 'node', publicKey: 'k', profile: '{}' }, 60_000)
  const message = Buffer.alloc(60 * MIB)
  const payload = 'x'.repeat(60 * MIB)
  suspend()
  const messages = Array.from({ length: 6 }, () => store.bus.send('node', message))
  const appends = Array.from({ length: 6 }, (_, i) =>
    store.log.append({ sessionId: `s${i}`, events: event(payload), ttl: 60_000 }),
  )
  setTimeout(resume, 300)
  const expected = { refused: 2, served: 4 }
  assert.deepEqual(await Promise.all([outcomes(messages), outcomes(appends)]), [expected, expected])
  assert.equal(await store.bus.send('node', message), true, 'what has settled makes room')
}, 60_000)

test('a script carries about a megabyte, of one session or of many; what is larger goes alone', () => {
  const append = (sessionId: string, size: number): Append => ({
    sessionId,
    events: event('x'.repeat(size)),
    ttl: 1000,
  })
  const batches = {
    'one session': Array.from({ length: 400 }, () => append('s', 10_000)),
    'many sessions': Array.from({ length: 400 }, (_, i) => append(`s${i}`, 10_000)),
    large: Array.from({ length: 6 }, (_, i) => append(`s${i % 2}`, 3 * MIB)),
    mixed: Array.from({ length: 300 }, (_, i) => append(`s${i % 7}`, i % 50 === 0 ? 2 * MIB : 20_000)),
  }
  for (const [name, appends] of Object.entries(batches)) {
    const seen: number[] = []
    for (const round of units(appends)) {
      for (const call of calls(round, 64)) {
        const size = call.reduce((sum, unit) => sum + unit.size, 0)
        const parts = call.flatMap((unit) => unit.parts)
        assert.ok(size <= MIB || parts.length === 1, `${name}: ${size} characters of ${parts.length} appends`)
        seen.push(...parts.map(({ index }) => index))
      }
    }
    assert.deepEqual(
      seen.sort((a, b) => a - b),
      appends.map((_, i) => i),
      `${name}: each append once`,
    )
  }
})

test('sessions of any generations share a script; what else differs does not', () => {
  const append = (i: number, over: Partial<Append> = {}): Append => {
    return {
      sessionId: `s${i}`,
      events: event('x'),
      ttl: 1000,
      limit: 9,
      generation: 1000 + i,
      beyond: i,
      ...over,
    }
  }
  const alike = Array.from({ length: 64 }, (_, i) => append(i))
  assert.deepEqual(
    units(alike).map((round) => calls(round, 64).length),
    [1],
  )
  const others = [append(64, { ttl: 2 }), append(65, { limit: 8 }), append(66, { touch: false })]
  assert.equal(calls(units([...alike, ...others])[0]!, 64).length, 4)
  assert.equal(units([append(1), append(1, { generation: 7 })]).length, 2, 'one session in two generations')
})

test('hundreds of large appends to one session are stored in order', async () => {
  const store = open({ keyPrefix: 'large:', timeout: 20_000 })
  const payload = 'y'.repeat(MIB / 4)
  const stored = Array.from({ length: 100 }, (_, i) =>
    store.log.append({ sessionId: 's', events: event(`${i} ${payload}`), ttl: 60_000 }),
  )
  const positions = (await Promise.all(stored)).map(({ positions: [position] }) => position!)
  assert.deepEqual(
    positions,
    [...positions].sort((a, b) => a - b),
  )
  assert.equal(new Set(positions).size, 100)
}, 60_000)
