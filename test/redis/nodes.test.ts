import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { afterEach, inject, test } from 'vitest'
import { nodeChannel } from '../../src/store/port.ts'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { program } from '../support/programs.ts'
import { until } from '../support/wait.ts'

const url = inject('redisUrl')
const children: ChildProcess[] = []
const stores: RedisEventStore[] = []
const prefixes: string[] = []

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(stores.splice(0).map((store) => store.close()))
})

async function start() {
  const keyPrefix = `nodes:${randomUUID()}:`
  prefixes.push(keyPrefix)
  const child = fork(program('redis/node.ts'), [url, keyPrefix, 'there'])
  children.push(child)
  const store = new RedisEventStore({ url, keyPrefix })
  stores.push(store)
  await store.bus.subscribe(nodeChannel('here'), () => {})
  await Promise.all([once(child, 'message'), settled()])
  return { child, store }
}

/** Silence is believed only by those whose own connection has stood for a second and a half. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 1_700))

async function killed(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'exit')
}

test('a node that was killed is found dead at the first message, long before its lease is over', async () => {
  const { child, store } = await start()
  assert.equal(await store.bus.send('there', Buffer.from('while it lives')), true)
  await killed(child)
  const started = performance.now()
  assert.equal(await store.bus.send('there', Buffer.from('too late')), false)
  assert.ok(performance.now() - started < 2_000)
  assert.equal(await store.nodes.get('there'), undefined)
  assert.equal(await store.nodes.renew('there', 60_000), false, 'and nothing brings it back')
})

test('its sessions can be claimed at once', async () => {
  const { child, store } = await start()
  const state = { initialize: '{}', protocolVersion: '2025-11-25' }
  const session = { id: 's', principal: null, owner: 'there', state, ttl: 60_000 }
  const generation = await store.sessions.create(session)
  assert.equal(await store.sessions.claim('s', { owner: 'here', generation }), undefined, 'it lives')
  await killed(child)
  // Redis may see the end of the connection a moment later than we see that of the process.
  const claimed = await until(
    'its death',
    () => store.sessions.claim('s', { owner: 'here', generation }),
    2_000,
  )
  assert.ok(claimed.generation > generation)
})

test('a node that is only stopped keeps its lease', async () => {
  const { child, store } = await start()
  child.kill('SIGSTOP')
  assert.ok(await store.nodes.get('there'))
  assert.equal(await store.bus.send('there', Buffer.from('x')), true)
  child.kill('SIGCONT')
})

test('a node that stops listening on purpose is not taken for dead', async () => {
  const { store } = await start()
  const subscription = await store.bus.subscribe(nodeChannel('quiet'), () => {})
  await store.nodes.register({ id: 'quiet', publicKey: 'key', profile: '{}' }, 60_000)
  await subscription.close()
  assert.ok(await store.nodes.get('quiet'))
  assert.equal(await store.bus.send('quiet', Buffer.from('x')), true)
})

test('a node that has only just come finds out within about two seconds', async () => {
  const { child, store } = await start()
  assert.ok(await store.nodes.get('there'))
  await killed(child)
  const fresh = new RedisEventStore({ url, keyPrefix: prefixes.at(-1)! })
  stores.push(fresh)
  const started = performance.now()
  await fresh.bus.receive('fresh', () => {})
  while (await fresh.nodes.get('there')) {
    assert.ok(performance.now() - started < 2_600, 'it still takes it for alive')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
})
