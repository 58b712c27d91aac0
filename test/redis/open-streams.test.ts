import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterAll, describe, inject, onTestFinished, test } from 'vitest'
import type { NewEvent } from '../../src/store/port.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { driver } from '../support/redis-contract.ts'

const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const request = (streamId: string, payload = `{"id":"${streamId}"}`): NewEvent => ({
  streamId,
  kind: 'open',
  payload,
})
const message = (streamId: string): NewEvent => ({ streamId, kind: 'message', payload: 'm' })
const final = (streamId: string): NewEvent => ({ streamId, kind: 'final', payload: 'f' })
const end = (streamId: string): NewEvent => ({ streamId, kind: 'end', payload: '' })

describe.each(['redisUrl', 'redisClusterUrl'] as const)('open streams on %s', (name) => {
  const url = inject(name)
  const client = driver(url)
  afterAll(() => client.disconnect())

  async function start({ ttl = 60_000 } = {}) {
    const keyPrefix = `open:${randomUUID()}:`
    const store = new RedisEventStore({ url, keyPrefix })
    onTestFinished(() => store.close())
    const session = { id: 's', principal: null, owner: 'gone', state, ttl }
    let generation = await store.sessions.create(session)
    return {
      store,
      key: `${keyPrefix}s:{s}:open`,
      log: `${keyPrefix}s:{s}`,
      append: (events: NewEvent[], rest: { ttl?: number; limit?: number } = {}) =>
        store.log.append({ sessionId: 's', events, generation, ttl, ...rest }),
      async claim() {
        const claimed = await store.sessions.claim('s', { owner: `n${generation}`, generation })
        assert.ok(claimed)
        generation = claimed.generation
        return claimed.open
      },
    }
  }

  test('a call whose open and end come together touches no hash; nor do its messages', async () => {
    const { append, claim, key } = await start()
    await Promise.all([append([request('a'), message('a'), final('a')]), append([request('b'), end('b')])])
    await append([request('c'), final('c'), request('c'), end('c')])
    assert.equal(await client.exists(key), 0)
    assert.deepEqual(await claim(), [])
  })

  test('are answered by a claim in the order of their first open, with the latest request and the number of runs', async () => {
    const { append, claim } = await start()
    const payload = `{"text":"ž🐎 \u0000 a b\\n${'x'.repeat(100_000)}"}\n second line`
    await append([request('b {%} 1', 'first'), request('a'), request('ended')])
    await append([message('a'), final('ended')])
    const before = [
      { streamId: 'b {%} 1', payload: 'first', runs: 1 },
      { streamId: 'a', payload: '{"id":"a"}', runs: 1 },
    ]
    assert.deepEqual(await claim(), before)
    assert.deepEqual(await claim(), before)
    await append([request('c'), request('b {%} 1', payload)])
    assert.deepEqual(await claim(), [
      { streamId: 'b {%} 1', payload, runs: 2 },
      { streamId: 'a', payload: '{"id":"a"}', runs: 1 },
      { streamId: 'c', payload: '{"id":"c"}', runs: 1 },
    ])
    await Promise.all([
      append([end('a')]),
      append([final('b {%} 1'), request('a', 'anew')]),
      append([end('c')]),
    ])
    assert.deepEqual(await claim(), [{ streamId: 'a', payload: 'anew', runs: 1 }])
  })

  test('a stream that is begun again and ends in the same append is open no more', async () => {
    const { append, claim, key } = await start()
    await append([request('a')])
    await append([request('a'), final('a')])
    assert.deepEqual(await claim(), [])
    assert.equal(await client.exists(key), 0)
  })

  test('neither a limit nor the time to live of events reaches them; they die with their session', async () => {
    const { append, claim, key, store } = await start({ ttl: 2_000 })
    await append([request('a')], { ttl: 50 })
    for (let i = 0; i < 30; i++) await append([message('b')], { ttl: 50, limit: 5 })
    await new Promise((resolve) => setTimeout(resolve, 100))
    const { events } = await store.log.read({ sessionId: 's', after: 0, limit: 100 })
    assert.ok(!events.some(({ kind }) => kind === 'open'))
    assert.deepEqual(await claim(), [{ streamId: 'a', payload: '{"id":"a"}', runs: 1 }])
    const expiry = await client.pttl(key)
    assert.ok(expiry > 1_000 && expiry < 5_000, `expires in ${expiry} ms`)
    await store.sessions.touch([{ id: 's', ttl: 60_000 }])
    assert.ok((await client.pttl(key)) >= 60_000, 'it lives as long as the session')
    await store.sessions.terminate('s')
    assert.equal(await client.exists(key), 0)
  })

  test('a log that was evicted takes them along', async () => {
    const { append, claim, key, log, store } = await start()
    await append([request('a')])
    await client.del(log)
    await store.log.append({ sessionId: 's', events: [message('b')], ttl: 60_000 })
    assert.equal(await client.exists(key), 0)
    await assert.rejects(claim())
  })
})
