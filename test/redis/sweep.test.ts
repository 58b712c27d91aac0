import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterAll, inject, test } from 'vitest'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { driver } from '../support/redis-contract.ts'

const url = inject('redisUrl')
const client = driver(url)
afterAll(() => client.disconnect())

const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const session = (id: string, ttl: number) => ({ id, principal: null, owner: 'node', state, ttl })

test('expired sessions: two stores sweep at once, in bounded steps, each entry is counted once', async () => {
  const keyPrefix = `sweep:${randomUUID()}:`
  const stores = [new RedisEventStore({ url, keyPrefix }), new RedisEventStore({ url, keyPrefix })]
  const store = stores[0]!
  for (let i = 0; i < 40; i++) await store.sessions.create(session(`s${i}`, 200))
  await store.sessions.create(session('alive', 60_000))
  await new Promise((resolve) => setTimeout(resolve, 300))
  const dry = await store.sweep({ dryRun: true })
  assert.deepEqual([dry.sessions, dry.events], [40, 0])
  assert.deepEqual(await store.sweep({ dryRun: true }), dry)
  let swept = 0
  for (let more = true; more; ) {
    const results = await Promise.all(stores.map((each) => each.sweep({ limit: 10 })))
    for (const { sessions } of results) {
      assert.ok(sessions <= 10)
      swept += sessions
    }
    more = results.some((result) => result.more)
  }
  assert.equal(swept, 40)
  assert.equal((await store.stats()).sessions, 1)
  await Promise.all(stores.map((each) => each.close()))
})

test('a session that was used since is looked at again when it expires then', async () => {
  const store = new RedisEventStore({ url, keyPrefix: `sweep:${randomUUID()}:` })
  await store.sessions.create(session('s', 200))
  await store.sessions.touch([{ id: 's', ttl: 60_000 }])
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.equal((await store.sweep()).sessions, 0)
  assert.deepEqual(await store.sweep({ limit: 1 }), { events: 0, sessions: 0, nodes: 0, more: false })
  assert.ok(await store.sessions.get('s'))
  await store.close()
})

test('a session that goes on making tasks keeps a list of those that live', async () => {
  const keyPrefix = `sweep:${randomUUID()}:`
  const store = new RedisEventStore({ url, keyPrefix })
  const task = (id: string, ttl: number) => store.tasks.create({ id, sessionId: 's', value: '', ttl })
  for (let i = 0; i < 20; i++) await task(`a${i}`, 50)
  await new Promise((resolve) => setTimeout(resolve, 100))
  for (let i = 0; i < 20; i++) await task(`b${i}`, 60_000)
  assert.equal(await client.zcard(`${keyPrefix}tasks:{s}`), 20)
  await store.close()
})

test('when everything has expired, no key is left but the mark of the layout', async () => {
  const keyPrefix = `sweep:${randomUUID()}:`
  const store = new RedisEventStore({ url, keyPrefix })
  const events = [{ streamId: 'a', kind: 'message', payload: 'x' }] as const
  for (let i = 0; i < 20; i++) {
    await store.sessions.create(session(`s${i}`, 100))
    await store.log.append({ sessionId: `s${i}`, events, ttl: 100 })
    await store.log.append({ sessionId: `log${i}`, events, ttl: 100 })
  }
  await store.sessions.terminate('s0')
  for (const session of ['s1', undefined]) await store.taskStore({ ttl: 0.1 }).createTask({}, 1, {}, session)
  await new Promise((resolve) => setTimeout(resolve, 200))
  while ((await store.sweep()).more);
  for (const deadline = performance.now() + 10_000; ; ) {
    const keys = await client.keys(`${keyPrefix}*`)
    if (keys.length === 1) {
      assert.deepEqual(keys, [`${keyPrefix}layout`])
      break
    }
    assert.ok(performance.now() < deadline, `still there: ${keys.slice(0, 5)}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await store.close()
})
