import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, onTestFinished, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { type RedisService, startRedis, startRedisCluster } from '../support/services/redis.ts'

const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const events = [
  { streamId: 'a', kind: 'open', payload: '{}' },
  { streamId: 'a', kind: 'message', payload: 'm' },
] as const

function open(url: string, options: { timeout?: number } = {}): RedisEventStore {
  const store = new RedisEventStore({ url, ...options })
  onTestFinished(() => store.close())
  return store
}

/** Everything that a store does once. */
async function useAll(one: RedisEventStore, two: RedisEventStore): Promise<void> {
  await one.ready()
  await one.ping()
  const heard: unknown[] = []
  const receiving = await one.bus.receive('node', (message) => void heard.push(message?.length))
  const listening = await one.bus.subscribe('channel', (text) => void heard.push(text))
  await one.nodes.register({ id: 'node', publicKey: 'k', profile: '{}' }, 60_000)
  assert.equal(await one.nodes.renew('node', 60_000), true)
  assert.ok(await two.nodes.get('node'))
  for (const size of [10, 100_000]) assert.equal(await two.bus.send('node', Buffer.alloc(size)), true)
  await two.bus.publish('channel', 'text')
  for (const deadline = performance.now() + 10_000; heard.length < 3; ) {
    assert.ok(performance.now() < deadline, `heard ${JSON.stringify(heard)}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  assert.deepEqual(new Set(heard), new Set([10, 100_000, 'text']))
  const session = { id: 's', principal: 'p', owner: 'gone', state, ttl: 60_000 }
  const first = await one.sessions.create(session)
  const claimed = await two.sessions.claim('s', { owner: 'node', generation: first })
  const generation = claimed!.generation
  await two.log.append({ sessionId: 's', events, generation, ttl: 30, limit: 1_000 })
  await new Promise((resolve) => setTimeout(resolve, 50))
  for (let i = 0; i < 15; i++)
    await two.log.append({ sessionId: 's', events, generation, ttl: 60_000, limit: 10 })
  assert.ok((await one.log.read({ sessionId: 's', streamId: 'a', after: 0, limit: 5 })).more)
  const ended = [...events, { streamId: 'b', kind: 'open', payload: '' }] as const
  await two.log.append({ sessionId: 's', events: ended, generation, ttl: 60_000 })
  await two.log.append({
    ...{ sessionId: 's', generation, ttl: 60_000 },
    events: [{ streamId: 'b', kind: 'end', payload: '' }],
  })
  assert.equal(await two.sessions.update('s', generation, { ...state, logLevel: 'debug' }), true)
  assert.deepEqual(await two.sessions.touch([{ id: 's', ttl: 90_000, generation, delivered: 5 }]), [])
  assert.equal((await one.sessions.list()).sessions.length, 1)
  assert.equal(await two.sessions.release('s', generation), true)
  assert.equal((await one.sessions.claim('s', { owner: 'x', generation }))?.open.length, 1)
  for await (const sessionId of one.transfer!.ids()) {
    const page = await one.transfer!.take({ sessionId, after: 0, limit: 100 })
    assert.ok(page && 'events' in page)
    assert.equal(await two.transfer!.put({ ...page, sessionId: 'copy' }), true)
  }
  assert.equal(await one.transfer!.put({ sessionId: 'ended', terminatedUntil: Date.now() + 60_000 }), true)
  await one.tasks.create({ id: 't', sessionId: 's', value: 'v', ttl: 60_000 })
  assert.equal(await two.tasks.replace('t', { version: 1, value: 'w', ttl: 60_000 }), true)
  assert.equal(await one.tasks.push('t', { text: 'x', limit: 5 }), 'queued')
  assert.deepEqual(await two.tasks.shift('t', { limit: 5 }), ['x'])
  assert.equal((await one.tasks.list({ sessionId: 's', limit: 5 })).tasks.length, 1)
  await two.log.append({ sessionId: 'log', events, ttl: 60_000 })
  await two.log.delete('log')
  assert.ok((await one.stats()).events > 0)
  assert.equal(await one.sessions.terminate('s'), true)
  await one.sweep()
  await receiving.close()
  await listening.close()
  await one.nodes.unregister('node')
}

describe('a user with no more rights than it takes', () => {
  let server: RedisService
  let admin: Redis
  /** As the documentation has it. */
  const documented =
    /ACL SETUSER mcp-persist ([^`]+)/.exec(readFileSync('docs/backends.md', 'utf8'))?.[1] ?? ''
  const rules = documented.split(/[\s\\]+/).filter((rule) => rule !== '')

  beforeAll(async () => {
    server = await startRedis()
    admin = new Redis(server.url)
  })
  afterAll(async () => {
    admin.disconnect()
    await server.stop()
  })

  async function user(name: string, given: readonly string[]): Promise<string> {
    await admin.call('acl', 'setuser', name, 'reset', 'on', ...given)
    const password = given.find((rule) => rule.startsWith('>'))!.slice(1)
    return server.url.replace('//', `//${name}:${password}@`)
  }

  test('documented: it can do all that the store does, and nothing is refused', async () => {
    assert.ok(rules.length > 30 && rules.includes('-@all'), `the documented rules: ${documented}`)
    const url = await user('documented', rules)
    await admin.call('acl', 'log', 'reset')
    const [one, two] = [open(url), open(url)]
    await useAll(one, two)
    // Who is settled asks who listens.
    await one.bus.receive('one', () => {})
    await two.bus.receive('two', () => {})
    await one.nodes.register({ id: 'one', publicKey: 'k', profile: '{}' }, 60_000)
    await new Promise((resolve) => setTimeout(resolve, 1_700))
    await admin.call('acl', 'setuser', 'documented', '-pubsub')
    await assert.rejects(two.nodes.get('one'), /correct the user, the password or its rights/)
    await admin.call('acl', 'setuser', 'documented', '+pubsub')
    assert.ok(await two.nodes.get('one'))
    const health = await one.health()
    assert.equal(health.ok, true, health.error)
    assert.match(health.version!, /^\d+\./)
    // CONFIG tells how durable Redis is. Who must not read it is not told; and ioredis says who it is, where it may.
    const refused = ((await admin.call('acl', 'log')) as string[][]).map(
      (entry) => entry[entry.indexOf('object') + 1],
    )
    assert.deepEqual(
      refused.filter((object) => !/^(config|client|pubsub)\b/.test(object!)),
      [],
    )
  })

  test('each right that is documented is one that it takes', async () => {
    const needless: string[] = []
    for (const rule of rules.filter((each) => /^\+/.test(each))) {
      // What only a cluster, a database of another number, the driver, a settled connection, or a farewell asks for.
      if (['+info', '+cluster', '+select', '+pubsub', '+unsubscribe'].includes(rule)) continue
      await admin.flushall()
      await admin.script('FLUSH')
      const without = rules.filter((each) => each !== rule)
      const url = await user('without', without)
      const [one, two] = [open(url, { timeout: 1_000 }), open(url, { timeout: 1_000 })]
      const refused = await useAll(one, two).then(
        () => false,
        () => true,
      )
      if (!refused) needless.push(rule)
    }
    assert.deepEqual(needless, [])
  }, 120_000)

  test('it is kept to its own keys and channels', async () => {
    const url = await user('kept', rules)
    const store = new RedisEventStore({ url, keyPrefix: 'other:', timeout: 1_000 })
    onTestFinished(() => store.close())
    const error = await store.log.append({ sessionId: 's', events, ttl: 60_000 }).catch((reason) => reason)
    assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${error}`)
    assert.match(error.message, /NOPERM.*correct the user/)
  })

  test('without the right to INFO it is healthy all the same', async () => {
    const without = await user(
      'uninformed',
      rules.filter((rule) => rule !== '+info'),
    )
    const dangerous = await user('careful', [
      '>pw',
      '+@all',
      '-@dangerous',
      '~mcp-persist:*',
      '&mcp-persist:*',
    ])
    for (const url of [without, dangerous]) {
      await admin.flushall()
      const [one, two] = [open(url), open(url)]
      await useAll(one, two)
      const health = await one.health()
      assert.deepEqual([health.ok, health.error, health.version], [true, undefined, 'unknown'])
      assert.ok(health.latencyMs! >= 0)
    }
  })
})

describe('a wrong password', () => {
  test('is told at once, by whatever comes first, and is forgotten when it is put right', async () => {
    const server = await startRedis({ config: ['--requirepass', 'right'] })
    onTestFinished(() => server.stop())
    for (const login of [':wrong@', '']) {
      const store = open(server.url.replace('//', `//${login}`), { timeout: 5_000 })
      const started = performance.now()
      const calls = [
        store.ready(),
        store.sessions.get('s'),
        store.log.append({ sessionId: 's', events, ttl: 1_000 }),
      ]
      const errors = await Promise.all(
        calls.map((call) =>
          call.then(
            () => undefined,
            (error) => error,
          ),
        ),
      )
      const waited = performance.now() - started
      assert.ok(waited < 2_000, `after ${waited} ms`)
      for (const error of errors) {
        assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${error}`)
        assert.match(error.message, /(WRONGPASS|NOAUTH).*correct the user, the password/)
      }
      const health = await store.health()
      assert.deepEqual([health.ok, /WRONGPASS|NOAUTH/.test(health.error!)], [false, true])
      const again = performance.now()
      await assert.rejects(store.ping())
      assert.ok(performance.now() - again < 1_000)
    }
    const late = open(server.url.replace('//', '//:later@'), { timeout: 5_000 })
    await assert.rejects(late.ready(), /WRONGPASS/)
    const admin = new Redis(server.url.replace('//', '//:right@'))
    await admin.config('SET', 'requirepass', 'later')
    for (const deadline = performance.now() + 10_000; ; ) {
      if (
        await late.ready().then(
          () => true,
          () => false,
        )
      )
        break
      assert.ok(performance.now() < deadline, 'it comes back by itself')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    admin.disconnect()
  }, 60_000)

  test('in a cluster too', async () => {
    const cluster = await startRedisCluster()
    onTestFinished(() => cluster.stop())
    for (const node of cluster.nodes) {
      const admin = new Redis(node.url)
      await admin.config('SET', 'requirepass', 'right')
      admin.disconnect()
    }
    const store = open(cluster.url.replace('//', '//:wrong@'), { timeout: 5_000 })
    const started = performance.now()
    await assert.rejects(store.ready(), /WRONGPASS/)
    assert.ok(performance.now() - started < 3_000, `after ${performance.now() - started} ms`)
  }, 60_000)
})
