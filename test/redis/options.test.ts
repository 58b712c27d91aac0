import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { inject, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { RedisEventStore, type RedisEventStoreOptions } from '../../src/store/redis/redis-store.ts'
import { parseRedisUrl } from '../../src/store/redis/redis-url.ts'
import { startRedis } from '../support/services/redis.ts'

const url = inject('redisUrl')

test('URLs: single, TLS, Cluster, Sentinel', () => {
  assert.deepEqual(parseRedisUrl('redis://user:p%40ss@host:7000/3?keyPrefix=app:'), {
    kind: 'single',
    addresses: [{ host: 'host', port: 7000 }],
    keyPrefix: 'app:',
    connection: { username: 'user', password: 'p@ss', db: 3 },
  })
  assert.deepEqual(parseRedisUrl('rediss://:secret@[::1]').connection, {
    password: 'secret',
    tls: {},
    enableTLSForSentinelMode: true,
    sentinelTLS: {},
  })
  assert.deepEqual(parseRedisUrl('redis+cluster://a:1,b,[::1]:3').addresses, [
    { host: 'a', port: 1 },
    { host: 'b', port: 6379 },
    { host: '::1', port: 3 },
  ])
  const sentinel = parseRedisUrl('redis+sentinel://:pw@a,b:2/my%20master/1?sentinelPassword=other')
  assert.deepEqual([sentinel.kind, sentinel.master], ['sentinel', 'my master'])
  assert.deepEqual(sentinel.connection, { password: 'pw', db: 1, sentinelPassword: 'other' })
})

test('what is wrong with a URL is told in a sentence, without the password', () => {
  const wrong = [
    ['http://u:hunter2@host', /is not of the form redis:/],
    ['redis://u:hunter2@a,b', /redis\+cluster:\/\/ or redis\+sentinel:/],
    ['redis+sentinel://u:hunter2@a', /name of the master/],
    ['redis+cluster://u:hunter2@a/1', /none in a cluster/],
    ['redis://u:hunter2@host/zero', /database number/],
    ['redis://u:hunter2@host:99999', /host:port/],
    ['redis://u:hunter2@host?keyprefix=x', /unknown parameter keyprefix; known are keyPrefix/],
  ] as const
  for (const [text, expected] of wrong) {
    assert.throws(
      () => new RedisEventStore({ url: text }),
      (error: Error) => {
        assert.ok(isPersistError(error, 'INVALID_ARGUMENT'), `${error}`)
        assert.match(error.message, expected)
        assert.doesNotMatch(error.message, /hunter2/)
        return true
      },
    )
  }
  assert.throws(() => new RedisEventStore({} as RedisEventStoreOptions), /either a url or a client/)
  assert.throws(() => new RedisEventStore({ url: 'redis://h', keyPrefix: '{a}' }), /braces/)
})

test('a wrong password is told, and not shown', async () => {
  const server = await startRedis({ config: ['--requirepass', 'right'] })
  const store = new RedisEventStore({ url: server.url.replace('//', '//:hunter2@'), timeout: 500 })
  const error = await store.ready().catch((reason) => reason)
  assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${error}`)
  assert.match(error.message, /WRONGPASS/)
  assert.doesNotMatch(JSON.stringify([error.message, error.stack, await store.health()]), /hunter2/)
  await store.close()
  await server.stop()
})

test('a client that is given is neither used nor closed', async () => {
  const client = new Redis(url, { lazyConnect: true, keyPrefix: 'theirs:' })
  const keyPrefix = `options:${randomUUID()}:`
  const store = new RedisEventStore({ client, keyPrefix })
  await store.log.append({
    sessionId: 's',
    events: [{ streamId: 'a', kind: 'end', payload: '' }],
    ttl: 60_000,
  })
  assert.equal(client.status, 'wait')
  await store.close()
  await client.connect()
  assert.equal(await client.ping(), 'PONG')
  client.disconnect()
})

test('data of a newer release is refused; health says so and changes nothing', async () => {
  const client = new Redis(url)
  const keyPrefix = `options:${randomUUID()}:`
  const untouched = new RedisEventStore({ url, keyPrefix })
  assert.deepEqual((await untouched.health()).migrations, { applied: [], pending: [] })
  assert.equal(await client.exists(`${keyPrefix}layout`), 0)
  for (const layout of ['3', 'three']) {
    await client.set(`${keyPrefix}layout`, layout)
    const error = await untouched.ready().catch((reason) => reason)
    assert.ok(isPersistError(error, 'SCHEMA_TOO_NEW'), `${error}`)
    assert.match(error.message, /upgrade mcp-persist/)
    const health = await untouched.health()
    assert.equal(health.ok, false)
    assert.match(health.error!, /upgrade mcp-persist/)
    assert.equal(await client.get(`${keyPrefix}layout`), layout)
  }
  await untouched.close()
  client.disconnect()
})

test('health warns of what may cost data', async () => {
  const server = await startRedis({ config: ['--maxmemory', '50mb', '--maxmemory-policy', 'allkeys-lru'] })
  const store = new RedisEventStore({ url: server.url })
  const { warnings, ok, version } = await store.health()
  assert.equal(ok, true)
  assert.match(version!, /^\d+\.\d+/)
  assert.match(warnings.join('\n'), /Persistence is off/)
  assert.match(warnings.join('\n'), /allkeys-lru.*noeviction/)
  await store.close()
  await server.stop()
})

test('a log that was evicted is begun anew under another epoch', async () => {
  const client = new Redis(url)
  const keyPrefix = `options:${randomUUID()}:`
  const store = new RedisEventStore({ url, keyPrefix })
  const events = [{ streamId: 'a', kind: 'message', payload: 'x' }] as const
  const before = await store.log.append({ sessionId: 's', events, ttl: 60_000 })
  await client.del(`${keyPrefix}s:{s}`)
  const after = await store.log.append({ sessionId: 's', events, ttl: 60_000 })
  assert.notEqual(after.epoch, before.epoch)
  assert.ok(after.positions[0]! > before.positions[0]!)
  await store.close()
  client.disconnect()
})
