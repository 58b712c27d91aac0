import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, inject, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { MESSAGE_LIMIT, nodeChannel } from '../../src/store/port.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { program } from '../support/programs.ts'
import { driver } from '../support/redis-contract.ts'
import { type RedisService, startRedis } from '../support/services/redis.ts'

const KIB = 1024
const stores: RedisEventStore[] = []
const children: ChildProcess[] = []

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(stores.splice(0).map((store) => store.close()))
})

function open(url: string, keyPrefix: string): RedisEventStore {
  const store = new RedisEventStore({ url, keyPrefix })
  stores.push(store)
  return store
}

async function until(what: string, check: () => boolean | Promise<boolean>, within = 10_000): Promise<void> {
  for (const deadline = performance.now() + within; !(await check()); ) {
    assert.ok(performance.now() < deadline, `not within ${within} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** A node that receives, and what it has heard. */
async function receiver(store: RedisEventStore, id: string) {
  const heard: (Buffer | undefined)[] = []
  const subscription = await store.bus.receive(id, (message) => {
    heard.push(message && Buffer.from(message))
  })
  await store.nodes.register({ id, publicKey: 'key', profile: '{}' }, 60_000)
  return { heard, subscription }
}

describe.each(['redisUrl', 'redisClusterUrl'] as const)('messages over %s', (name) => {
  const url = inject(name)
  const client = driver(url)
  afterAll(() => client.disconnect())

  test('of every size arrive as the same bytes, in publications of 16 KiB at the most, and leave nothing', async () => {
    const keyPrefix = `bus:${randomUUID()}:`
    const [here, there] = [open(url, keyPrefix), open(url, keyPrefix)]
    const { heard } = await receiver(here, 'here {%}')
    const published: number[] = []
    const spy = driver(url)
    spy.on('messageBuffer', (_: Buffer, bytes: Buffer) => published.push(bytes.length))
    await spy.subscribe(`${keyPrefix}${nodeChannel('here {%}')}`)
    const sizes = [0, 1, 300, 16 * KIB, 16 * KIB + 1, 2 ** 20, 5 * 2 ** 20]
    const messages = [...sizes.map((size) => randomBytes(size)), Buffer.from([0, 1, 2, 255, 10, 13])]
    for (const message of messages) assert.equal(await there.bus.send('here {%}', message), true)
    await until(
      'all have come',
      () => heard.length === messages.length && published.length === messages.length,
    )
    const texts = (all: readonly (Buffer | undefined)[]) => all.map((each) => each?.toString('base64')).sort()
    assert.deepEqual(texts(heard), texts(messages))
    assert.ok(Math.max(...published) <= 16 * KIB + 1, `publications of ${published} bytes`)
    spy.disconnect()
    const keys = await Promise.all(
      ('nodes' in client ? client.nodes('master') : [client]).map((node) =>
        node.keys(`${keyPrefix}*parcel*`),
      ),
    )
    assert.deepEqual(keys.flat(), [])
  })

  test('to a node that is not there are refused, and leave no parcel', async () => {
    const keyPrefix = `bus:${randomUUID()}:`
    const store = open(url, keyPrefix)
    assert.equal(await store.bus.send('nobody', Buffer.from('x')), false)
    assert.equal(await store.bus.send('nobody', randomBytes(100 * KIB)), false)
    await store.nodes.register({ id: 'lapsed', publicKey: 'k', profile: '{}' }, 100)
    await until('the lease is over', async () => !(await store.bus.send('lapsed', Buffer.from('x'))))
    const all = 'nodes' in client ? client.nodes('master') : [client]
    const keys = await Promise.all(all.map((node) => node.keys(`${keyPrefix}*parcel*`)))
    assert.deepEqual(keys.flat(), [])
    await assert.rejects(store.bus.send('nobody', Buffer.alloc(MESSAGE_LIMIT + 1)), (error) =>
      isPersistError(error, 'INVALID_ARGUMENT'),
    )
  })

  test('do not disturb those who hear texts for the node, nor the other way round', async () => {
    const keyPrefix = `bus:${randomUUID()}:`
    const [here, there] = [open(url, keyPrefix), open(url, keyPrefix)]
    const { heard, subscription } = await receiver(here, 'here')
    const texts: (string | undefined)[] = []
    const listening = await here.bus.subscribe(nodeChannel('here'), (text) => void texts.push(text))
    await there.bus.send('here', Buffer.from('message'))
    await there.bus.publish(nodeChannel('here'), 'text')
    await until('both have come', () => heard.length > 0 && texts.length > 0)
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.deepEqual([heard.map(String), texts], [['message'], ['text']])
    await subscription.close()
    await subscription.close()
    await there.bus.send('here', Buffer.from('late'))
    await there.bus.publish(nodeChannel('here'), 'late')
    await until('the other still hears', () => texts.length === 2)
    assert.equal(heard.length, 1)
    await listening.close()
  })

  test('that nobody fetches go by themselves', async () => {
    const keyPrefix = `bus:${randomUUID()}:`
    const store = open(url, keyPrefix)
    await store.nodes.register({ id: 'deaf', publicKey: 'k', profile: '{}' }, 60_000)
    assert.equal(await store.bus.send('deaf', randomBytes(100 * KIB)), true)
    const all = 'nodes' in client ? client.nodes('master') : [client]
    const found = (await Promise.all(all.map((node) => node.keys(`${keyPrefix}*parcel*`)))).flat()
    assert.equal(found.length, 1)
    const left = await client.pttl(found[0]!)
    assert.ok(left > 0 && left <= 30_000, `it lives for ${left} ms`)
  })
})

describe('when something breaks', () => {
  let server: RedisService
  let admin: Redis
  beforeAll(async () => {
    server = await startRedis({ persistence: 'always' })
    admin = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
    admin.on('error', () => {})
  })
  afterAll(async () => {
    admin.disconnect()
    await server.stop()
  })

  test('a receiver whose connection was cut is told that it may have missed something, and hears again', async () => {
    const [here, there] = [open(server.url, 'cut:'), open(server.url, 'cut:')]
    const { heard } = await receiver(here, 'here')
    await there.ready()
    await admin.call('client', 'kill', 'type', 'pubsub')
    await until('it was told', () => heard.length > 0)
    assert.deepEqual(heard, [undefined])
    await there.bus.send('here', Buffer.from('again'))
    await until('it hears again', () => heard.length > 1)
    assert.deepEqual(heard.slice(1).map(String), ['again'])
  })

  test('a parcel that is gone before it was fetched is something missed', async () => {
    const [here, there] = [open(server.url, 'gone:'), open(server.url, 'gone:')]
    const { heard } = await receiver(here, 'here')
    await there.ready()
    const name = 'AAAA'
    await admin.publish('gone:node:here', Buffer.concat([Buffer.of(2), Buffer.from(name)]))
    await until('it was told', () => heard.length > 0)
    assert.deepEqual(heard, [undefined])
  })

  test('messages sent while connections are cut: none is invented, and what comes is what was sent', async () => {
    const [here, there] = [open(server.url, 'storm:'), open(server.url, 'storm:')]
    const { heard } = await receiver(here, 'here')
    await there.ready()
    const killing = (async () => {
      for (let i = 0; i < 10; i++) {
        await new Promise((resolve) => setTimeout(resolve, 50))
        await admin.call('client', 'kill', 'type', i % 2 ? 'normal' : 'pubsub', 'skipme', 'yes')
      }
    })()
    const sent = new Set<string>()
    let ended = false
    void killing.then(() => {
      ended = true
    })
    for (let i = 0; !ended; i++) {
      const message = Buffer.concat([Buffer.from(`${i} `), randomBytes(i % 5 === 0 ? 50 * KIB : 50)])
      sent.add(message.toString('base64'))
      assert.equal(await there.bus.send('here', message), true, 'nobody has died')
    }
    await killing
    await until('it hears', async () => {
      await there.bus.send('here', Buffer.from('end'))
      return heard.some((each) => each?.toString() === 'end')
    })
    const strange = heard.filter(
      (each) => each && each.toString() !== 'end' && !sent.has(each.toString('base64')),
    )
    assert.deepEqual(strange, [])
    assert.ok(heard.includes(undefined))
    assert.ok(heard.length > sent.size / 4, `${heard.length} of ${sent.size} came`)
  })

  test('a node that was killed is known to be gone at the first message', async () => {
    const store = open(server.url, 'killed:')
    await receiver(store, 'here')
    const child = fork(program('redis/node.ts'), [server.url, 'killed:', 'there'])
    children.push(child)
    await once(child, 'message')
    assert.equal(await store.bus.send('there', Buffer.from('while it lives')), true)
    await new Promise((resolve) => setTimeout(resolve, 1_700))
    child.kill('SIGKILL')
    await once(child, 'exit')
    assert.equal(await store.bus.send('there', Buffer.from('too late')), false)
  })
})
