import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, inject, onTestFinished, test } from 'vitest'
import { nextGeneration } from '../../src/store/common/generation.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'

const url = inject('redisUrl')
const client = new Redis(url)
afterAll(() => client.disconnect())

const state = { initialize: '{"first":true}', protocolVersion: '2025-11-25' }
const MINUTE = 60_000

function open() {
  const keyPrefix = `layout:${randomUUID()}:`
  const store = new RedisEventStore({ url, keyPrefix })
  onTestFinished(() => store.close())
  return { store, keyPrefix }
}

function number(value: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes)
  let rest = value
  for (let i = bytes - 1; i >= 0; i--, rest = Math.floor(rest / 256)) buffer[i] = rest % 256
  return buffer
}

/** A session as layout 1 has it: a generation of five bytes, and its open streams only in its log. */
async function writeOld(keyPrefix: string, entries: readonly string[], { senders = 1, due = 0 } = {}) {
  const now = Date.now()
  const first = (now - 10) * 1000
  const last = first + entries.length - 1
  const numbers = [number(last, 7), number(0, 7), number(due, 7), number(3, 5)]
  const times = [number(now + MINUTE, 7), number(now + 2 * MINUTE, 7)]
  const sent = Array.from({ length: senders }, (_, i) =>
    Buffer.concat([Buffer.from(`sender-${i}`), number(7, 6), number(last, 7)]),
  )
  const head = Buffer.concat([...numbers, ...times, Buffer.from('0ldEpoch'), ...sent])
  assert.equal(head.length, 48 + 21 * senders)
  const log = `${keyPrefix}s:{s}`
  await client.rpush(
    log,
    head,
    ...entries.map((entry, i) => Buffer.concat([number(first + i, 7), Buffer.from(entry)])),
  )
  const record = ['old-node', 5, now, now, MINUTE, '"somebody"', JSON.stringify(state)].join('\n')
  await client.set(`${log}:record`, record)
  await client.set(`${keyPrefix}layout`, 1)
  return { log, first, last }
}

const ENTRIES = [
  '600000 o a {"id":1} of a',
  '600000 o b {"id":2}',
  '600000 m a message',
  '600000 f b result',
  '600000 o c%20d {"id":3}',
  '600000 o a {"id":1} again',
  '600000 o e {"id":4}',
  '600000 e e ',
]

test.each([0, 1, 4])(
  'a session of layout 1 with %i senders is read and listed, claimed with its open streams, and goes on',
  async (senders) => {
    const { store, keyPrefix } = open()
    const { first, last } = await writeOld(keyPrefix, ENTRIES, { senders })
    const record = await store.sessions.get('s')
    assert.deepEqual(
      [record?.owner, record?.generation, record?.delivered, record?.state],
      ['old-node', 3, 5, state],
    )
    const page = await store.log.read({ sessionId: 's', after: first, limit: 2 })
    assert.deepEqual(
      [page.epoch, page.last, page.scanned, page.events.length],
      ['0ldEpoch', last, first + 2, 2],
    )
    await store.sessions.touch([{ id: 's', generation: 3 }])
    const claimed = await store.sessions.claim('s', { owner: 'new-node', generation: 3 })
    assert.deepEqual(claimed?.open, [
      { streamId: 'a', payload: '{"id":1} again', runs: 2 },
      { streamId: 'c d', payload: '{"id":3}', runs: 1 },
    ])
    assert.ok(claimed.generation > 3)
    const generation = claimed.generation
    const events = [{ streamId: 'a', kind: 'final', payload: 'late result' }] as const
    const { positions, epoch } = await store.log.append({ sessionId: 's', events, generation, ttl: MINUTE })
    assert.ok(positions[0]! > last)
    assert.equal(epoch, '0ldEpoch')
    const again = await store.sessions.claim('s', { owner: 'new-node', generation })
    assert.deepEqual(
      again?.open.map(({ streamId }) => streamId),
      ['c d'],
    )
  },
)

test('who only reads marks nothing and leaves what an older release can read; who writes marks it', async () => {
  const { store, keyPrefix } = open()
  // Its first event has expired: a reader drops it.
  const { log } = await writeOld(keyPrefix, ['1 m a expired', ...ENTRIES], { due: 1 })
  const { length } = (await client.lindexBuffer(log, 0))!
  assert.equal((await store.log.read({ sessionId: 's', after: 0, limit: 10 })).events.length, 8)
  assert.equal((await store.sessions.get('s'))?.generation, 3)
  await store.stats()
  await store.sessions.list()
  for await (const id of store.transfer!.ids()) assert.equal(id, 's')
  await store.transfer!.take({ sessionId: 's', after: 0, limit: 10 })
  assert.equal(await client.get(`${keyPrefix}layout`), '1')
  assert.equal((await client.lindexBuffer(log, 0))!.length, length)
  assert.equal(await client.llen(log), 9, 'the expired event is gone')
  await store.sessions.touch([{ id: 's', ttl: MINUTE }])
  assert.equal(await client.get(`${keyPrefix}layout`), '2')
  await store.sessions.touch([{ id: 's', ttl: MINUTE }])
})

test('to look at a prefix where nothing is leaves nothing', async () => {
  const { store, keyPrefix } = open()
  await store.ready()
  await store.stats()
  await store.sessions.list()
  await store.log.read({ sessionId: 's', after: 0, limit: 10 })
  await store.bus.subscribe('c', () => {})
  assert.equal((await store.health()).ok, true)
  assert.deepEqual(await client.keys(`${keyPrefix}*`), [])
})

test('generations have 53 bits everywhere', async () => {
  const { store } = open()
  const largest = Number.MAX_SAFE_INTEGER
  const page = {
    ...{ sessionId: 's', epoch: 'abcd0123', generation: largest, expiresAt: Date.now() + MINUTE, open: [] },
    ...{ floor: 0, last: 1, more: false, corrupt: 0, scanned: 1, events: [] },
    session: { principal: null, state, delivered: 0, createdAt: 1, lastUsedAt: 1, ttl: MINUTE },
  }
  assert.equal(await store.transfer!.put(page), true)
  assert.equal((await store.sessions.get('s'))?.generation, largest)
  const events = [{ streamId: 'a', kind: 'message', payload: 'm' }] as const
  await store.log.append({ sessionId: 's', events, generation: largest, ttl: MINUTE })
  const stale = store.log.append({ sessionId: 's', events, generation: largest - 1, ttl: MINUTE })
  await assert.rejects(stale, new RegExp(`generation ${largest};.*generation ${largest - 1} was refused`))
  assert.equal(await store.sessions.release('s', largest - 1), false)
  assert.equal(await store.sessions.release('s', largest), true)
  const taken = await store.transfer!.take({ sessionId: 's', after: 0, limit: 1 })
  assert.ok(taken && 'generation' in taken && taken.generation === largest)
  assert.ok(nextGeneration(nextGeneration(0)) > 2 ** 24)
})
