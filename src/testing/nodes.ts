import assert from 'node:assert/strict'
import type { Suite } from './suite.ts'
import { claimed, eventually, MINUTE, PROFILE, session, startNode } from './support.ts'

export function nodes({ test, all, pair, ms }: Suite): void {
  test('nodes: registered, found with its key, unregistered, gone', async (store) => {
    assert.equal(await store.nodes.get('node'), undefined)
    await startNode(store, 'node')
    assert.deepEqual(await store.nodes.get('node'), {
      id: 'node',
      publicKey: 'key-of-node',
      profile: PROFILE,
    })
    assert.equal(await store.nodes.renew('node', MINUTE), true)
    await store.nodes.unregister('node')
    await store.nodes.unregister('node')
    assert.equal(await store.nodes.get('node'), undefined)
    assert.equal(await store.nodes.renew('node', MINUTE), false)
  })

  test('nodes: what a node says of itself is kept as it is', async (store) => {
    for (const profile of ['', '{}', 'žluť 🐎 "\\ \n', 'ž'.repeat(1000)]) {
      await store.nodes.register({ id: 'node', publicKey: 'key', profile }, MINUTE)
      assert.deepEqual(await store.nodes.get('node'), { id: 'node', publicKey: 'key', profile })
    }
  })

  all('nodes: those that live are listed', async (stores) => {
    const ids = async () => (await stores.at(-1)!.nodes.list()).map(({ id }) => id).sort()
    assert.deepEqual(await ids(), [])
    await startNode(stores[0]!, 'a')
    await startNode(stores.at(-1)!, 'b')
    await startNode(stores[0]!, 'lapsed', ms(200))
    await eventually('the lease is over', async () => (await ids()).length === 2)
    assert.deepEqual(await ids(), ['a', 'b'])
    assert.deepEqual(
      (await stores[0]!.nodes.list()).find(({ id }) => id === 'b'),
      await stores[0]!.nodes.get('b'),
    )
    await stores[0]!.nodes.unregister('a')
    assert.deepEqual(await ids(), ['b'])
  })

  test('nodes: a lease that is not renewed ends, and cannot be renewed afterwards', async (store) => {
    await startNode(store, 'lapsed', ms(300))
    await startNode(store, 'renewed', ms(300))
    assert.equal(await store.nodes.renew('renewed', MINUTE), true)
    const generation = await store.sessions.create(session('s', 'lapsed'))
    await eventually('the lease is over', async () => !(await store.nodes.get('lapsed')))
    assert.equal(await store.nodes.renew('lapsed', MINUTE), false)
    assert.equal(await store.nodes.get('lapsed'), undefined)
    assert.equal((await store.sessions.get('s'))?.ownerAlive, false)
    const record = await store.sessions.claim('s', { owner: 'renewed', generation })
    assert.deepEqual([record?.owner, record?.ownerAlive], ['renewed', true])
    assert.ok(await store.nodes.get('renewed'))
  })

  pair('nodes: every store sees the same nodes', async (one, two) => {
    await startNode(one, 'node')
    assert.deepEqual(await two.nodes.get('node'), { id: 'node', publicKey: 'key-of-node', profile: PROFILE })
    await one.nodes.unregister('node')
    assert.equal(await two.nodes.get('node'), undefined)
  })

  pair(
    'nodes: a node whose store was closed is known to be dead, where the store detects it',
    async (one, two) => {
      await startNode(one, 'here')
      await startNode(two, 'there')
      const generation = await one.sessions.create(session('s', 'there'))
      assert.equal((await one.sessions.get('s'))?.ownerAlive, true)
      assert.ok(await two.nodes.get('here'), 'the living are not taken for dead')
      await two.close()
      if (one.traits.detectsDeadNodes) {
        await eventually('the node is known to be dead', async () => !(await one.nodes.get('there')))
        assert.equal((await one.sessions.get('s'))?.ownerAlive, false)
        await claimed(one, 's', 'here', generation)
      } else {
        assert.equal((await one.sessions.get('s'))?.ownerAlive, true, 'its lease still runs')
      }
      assert.ok(await one.nodes.get('here'))
    },
  )
}
