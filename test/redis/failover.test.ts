import assert from 'node:assert/strict'
import { test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { startRedisCluster, startRedisSentinel } from '../support/services/redis.ts'

const append = async (store: RedisEventStore, sessionId: string, payload: string) => {
  const events = [{ streamId: 'a', kind: 'message', payload }] as const
  return (await store.log.append({ sessionId, events, ttl: 600_000 })).positions[0]!
}

async function payloads(store: RedisEventStore, sessionId: string): Promise<string[]> {
  const { events } = await store.log.read({ sessionId, after: 0, limit: 10_000 })
  return events.map(({ payload }) => payload)
}

test('Sentinel: the master dies, the replica takes over, the store follows', async () => {
  const service = await startRedisSentinel()
  const store = new RedisEventStore({ url: service.url })
  const heard: (string | undefined)[] = []
  try {
    await store.bus.subscribe('c', (text) => void heard.push(text))
    const before = await append(store, 's', 'before')
    const { warnings } = await store.health()
    assert.ok(
      warnings.some((warning) => warning.includes('asynchronous')),
      warnings.join(' '),
    )
    await service.master.kill()
    let after: number | undefined
    for (const deadline = performance.now() + 20_000; after === undefined; ) {
      assert.ok(performance.now() < deadline, 'the store did not find the new master within 20 s')
      after = await append(store, 's', 'after').catch((error) => {
        assert.ok(isPersistError(error), `${error}`)
        return undefined
      })
    }
    assert.ok(after > before)
    const found = await payloads(store, 's')
    assert.equal(new Set(found).size, found.length)
    assert.equal(found.at(-1), 'after')
    for (const deadline = performance.now() + 10_000; !heard.includes('again'); ) {
      assert.ok(performance.now() < deadline, 'wake-ups did not resume within 10 s')
      await store.bus.publish('c', 'again')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    assert.equal(heard[0], undefined, 'first: look at everything')
  } finally {
    await store.close()
    await service.stop()
  }
}, 60_000)

test('Cluster: one master is away for 2 s; its sessions wait, the others do not, nothing is lost or doubled', async () => {
  const cluster = await startRedisCluster({
    persistence: 'always',
    config: ['--cluster-require-full-coverage', 'no'],
  })
  const store = new RedisEventStore({ url: cluster.url, timeout: 10_000 })
  const sessions = Array.from({ length: 60 }, (_, i) => `s${i}`)
  try {
    await Promise.all(sessions.map((session) => append(store, session, 'before')))
    const [victim] = cluster.nodes
    await victim!.kill()
    const waiting = sessions.map((session) => append(store, session, 'during'))
    await Promise.race(waiting)
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    await victim!.restart()
    await Promise.all(waiting)
    for (const session of sessions) assert.deepEqual(await payloads(store, session), ['before', 'during'])
  } finally {
    await store.close()
    await cluster.stop()
  }
}, 60_000)
