import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { describe, inject, onTestFinished, test } from 'vitest'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { driver } from '../support/redis-contract.ts'
import { startRedis } from '../support/services/redis.ts'

const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const call = (['open', 'message', 'final'] as const).map((kind) => ({ streamId: 'a', kind, payload: 'x' }))

describe.each(['redisUrl', 'redisClusterUrl'] as const)(
  'a session that lives for one call, on %s',
  (name) => {
    test('leaves its tombstone and no other key', async () => {
      const { store, prefix, live } = start()
      await store.ready()
      await live('s')
      const client = driver(inject(name))
      onTestFinished(() => client.disconnect())
      // A cluster's nodes are known when it has been asked something.
      await client.exists(`${prefix}layout`)
      const servers = 'nodes' in client ? client.nodes('master') : [client]
      const keys = (await Promise.all(servers.map((server) => server.keys(`${prefix}*`)))).flat()
      assert.deepEqual(keys.sort(), [`${prefix}layout`, `${prefix}s:{s}:gone`])
    })

    function start() {
      const prefix = `life:${randomUUID()}:`
      return { ...open(inject(name), prefix), prefix }
    }
  },
)

test('on a single server each step of its life is one command, and so is a look at it', async () => {
  // One of its own: a monitor hears everybody.
  const server = await startRedis()
  onTestFinished(() => server.stop())
  const { url } = server
  const { store, live } = open(url, `life:${randomUUID()}:`)
  await store.nodes.register({ id: 'node', publicKey: 'k', profile: '{}' }, 60_000)
  await live('first')
  const client = driver(url)
  onTestFinished(() => client.disconnect())
  const monitor = await (client as Redis).monitor()
  onTestFinished(() => monitor.disconnect())
  const steps: string[] = []
  let resolve = () => {}
  const over = new Promise<void>((done) => {
    resolve = done
  })
  monitor.on('monitor', (_time: string, [command, ...args]: string[], source: string) => {
    if (args[0] === 'over') resolve()
    // What scripts call is said to come from them.
    else if (source !== 'lua' && args.some((arg) => arg.includes('{second}'))) steps.push(command!)
  })
  await live('second')
  await client.echo('over')
  await over
  assert.deepEqual(steps, ['evalsha', 'evalsha', 'evalsha', 'evalsha'])
})

function open(url: string, keyPrefix: string) {
  const store = new RedisEventStore({ url, keyPrefix })
  onTestFinished(() => store.close())
  return {
    store,
    async live(id: string) {
      const session = { id, principal: 'somebody', owner: 'node', state, ttl: 60_000, limit: 10 }
      const generation = await store.sessions.create(session)
      await store.log.append({ sessionId: id, events: call, generation, ttl: 60_000 })
      assert.equal((await store.sessions.get(id))?.generation, generation)
      assert.equal(await store.sessions.terminate(id, generation), true)
    },
  }
}
