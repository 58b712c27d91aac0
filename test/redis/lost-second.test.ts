import assert from 'node:assert/strict'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { test } from 'vitest'
import { formatEventId } from '../../src/store/event-id.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { startRedis } from '../support/services/redis.ts'

const event = (payload: string) => [{ streamId: 'a', kind: 'message', payload }] as const

test('Redis comes back without its last second: no id is issued twice, and readers miss nothing new', async () => {
  const server = await startRedis({ persistence: 'everysec' })
  const admin = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
  admin.on('error', () => {})
  const store = new RedisEventStore({ url: server.url })
  try {
    const append = async (payload: string) => {
      const { positions, epoch } = await store.log.append({
        sessionId: 's',
        events: event(payload),
        ttl: 600_000,
      })
      return { position: positions[0]!, epoch }
    }
    for (let i = 0; i < 50; i++) await append(`kept ${i}`)
    // What is on disk now is what Redis will come back with.
    await admin.call('config', 'set', 'appendfsync', 'always')
    await append('kept 50')
    const files = join(server.dir, 'appendonlydir')
    cpSync(files, `${files}.old`, { recursive: true })
    const lost = []
    for (let i = 0; i < 50; i++) lost.push(await append(`lost ${i}`))
    await server.kill()
    rmSync(files, { recursive: true })
    cpSync(`${files}.old`, files, { recursive: true })
    await server.restart()

    const reader = lost.at(-1)!
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 1_000 })
    assert.equal(page.events.length, 51, 'the last second is gone')
    const fresh = []
    for (let i = 0; i < 50; i++) fresh.push(await append(`new ${i}`))
    const ids = [...lost, ...fresh].map(({ position, epoch }) =>
      formatEventId('s', { streamId: 'a', position, epoch }),
    )
    assert.equal(new Set(ids).size, 100, 'no id twice')
    const resumed = await store.log.read({ sessionId: 's', after: reader.position, limit: 1_000 })
    assert.deepEqual(
      resumed.events.map(({ payload }) => payload),
      Array.from({ length: 50 }, (_, i) => `new ${i}`),
    )
  } finally {
    admin.disconnect()
    await store.close()
    await server.stop()
  }
})

test('Redis comes back empty: the log begun anew has another epoch, and a resuming client is told of the gap', async () => {
  const server = await startRedis()
  const store = new RedisEventStore({ url: server.url })
  try {
    const gaps: string[] = []
    const events = store.forSession('s', { onGap: ({ reason }) => void gaps.push(reason) })
    const before = await events.storeEvent('a', { jsonrpc: '2.0', method: 'before' })
    await server.restart()
    await events.storeEvent('a', { jsonrpc: '2.0', method: 'after' })
    const received: unknown[] = []
    await events.replayEventsAfter(before, { send: async (_, message) => void received.push(message) })
    assert.deepEqual(received, [{ jsonrpc: '2.0', method: 'after' }])
    assert.deepEqual(gaps, ['store-replaced'])
  } finally {
    await store.close()
    await server.stop()
  }
})

test('kill -9 and restart: everything acknowledged is there, with its ids', async () => {
  const server = await startRedis({ persistence: 'always' })
  const store = new RedisEventStore({ url: server.url })
  try {
    const calls = Array.from({ length: 500 }, (_, i) =>
      store.log.append({ sessionId: 's', events: event(`${i}`), ttl: 600_000 }),
    )
    const positions = (await Promise.all(calls)).flatMap((appended) => appended.positions)
    await server.restart()
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 1_000 })
    assert.deepEqual(
      page.events.map(({ position }) => position),
      positions,
    )
  } finally {
    await store.close()
    await server.stop()
  }
})
