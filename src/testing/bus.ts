import assert from 'node:assert/strict'
import { MAILBOX_LIMIT, nodeChannel } from '../store/port.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import { eventually, range, rejectsWith, startNode, turn } from './support.ts'

const letter = (text: string | number) => Buffer.from(`letter ${text}`)
const texts = (letters: readonly Uint8Array[]) => letters.map((bytes) => Buffer.from(bytes).toString())

export function bus({ test, all, ms }: Suite): void {
  all('mailbox: letters are taken once, in the order they were posted', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    await startNode(here, 'node')
    await startNode(here, 'other')
    const posted = await Promise.all(range(50).map((i) => there.bus.post('node', letter(i))))
    assert.deepEqual(
      posted,
      posted.map(() => true),
    )
    await here.bus.post('other', letter('other'))
    assert.deepEqual(texts(await here.bus.collect('node')), texts(range(50).map(letter)))
    assert.deepEqual(await here.bus.collect('node'), [])
    assert.deepEqual(texts(await here.bus.collect('other')), ['letter other'])
  })

  test('mailbox: letters are bytes, kept as they are', async (store) => {
    await startNode(store, 'node')
    const letters = [new Uint8Array(), Uint8Array.from(range(256)), Buffer.alloc(2 ** 20, 0xfe)]
    for (const bytes of letters) assert.equal(await store.bus.post('node', bytes), true)
    const found = await store.bus.collect('node')
    assert.deepEqual(
      found.map((bytes) => Buffer.from(bytes).toString('base64')),
      letters.map((bytes) => Buffer.from(bytes).toString('base64')),
    )
  })

  all('mailbox: racing collectors share the letters, none twice, none lost', async (stores) => {
    await startNode(stores[0]!, 'node')
    const count = 1_500
    const taken: string[][] = []
    let posted = false
    const collector = async (store: Store) => {
      for (;;) {
        const last = posted
        const found = texts(await store.bus.collect('node'))
        taken.push(found)
        if (last && found.length === 0) return
        await turn()
      }
    }
    const collectors = range(4).map((i) => collector(stores[i % stores.length]!))
    for (const block of range(count / 50)) {
      await Promise.all(range(50).map((i) => stores.at(-1)!.bus.post('node', letter(block * 50 + i))))
    }
    posted = true
    await Promise.all(collectors)
    const number = (text: string) => Number(text.slice('letter '.length))
    for (const found of taken) {
      const numbers = found.map(number)
      assert.deepEqual(
        numbers,
        [...numbers].sort((a, b) => a - b),
      )
    }
    assert.deepEqual(
      taken
        .flat()
        .map(number)
        .sort((a, b) => a - b),
      range(count),
    )
  })

  test('mailbox: a letter to nobody is refused, and letters die with their node', async (store) => {
    assert.equal(await store.bus.post('nobody', letter(1)), false)
    assert.deepEqual(await store.bus.collect('nobody'), [])
    await startNode(store, 'left')
    await store.bus.post('left', letter(1))
    await store.nodes.unregister('left')
    assert.equal(await store.bus.post('left', letter(2)), false)
    assert.deepEqual(await store.bus.collect('left'), [])
    await startNode(store, 'lapsed', ms(300))
    await store.bus.post('lapsed', letter(1))
    await eventually('the lease is over', async () => !(await store.nodes.get('lapsed')))
    assert.equal(await store.bus.post('lapsed', letter(2)), false)
    assert.deepEqual(await store.bus.collect('lapsed'), [])
  })

  test('mailbox: a full one refuses more, and takes letters again once some are collected', async (store) => {
    await startNode(store, 'node')
    for (const block of range(MAILBOX_LIMIT / 500)) {
      await Promise.all(range(500).map((i) => store.bus.post('node', letter(block * 500 + i))))
    }
    await rejectsWith('OVERLOADED', store.bus.post('node', letter('too many')))
    const found = await store.bus.collect('node')
    assert.ok(found.length > 0 && found.length <= 1_000)
    assert.deepEqual(texts(found), texts(range(found.length).map(letter)))
    assert.equal(await store.bus.post('node', letter('again')), true)
  })

  all('bus: a letter wakes its node', async (stores) => {
    let woken = 0
    const subscription = await stores[0]!.bus.subscribe(nodeChannel('node'), () => {
      woken += 1
    })
    await startNode(stores[0]!, 'node')
    for (const round of range(5)) {
      const before = woken
      await stores.at(-1)!.bus.post('node', letter(round))
      await eventually('the node is woken', () => woken > before)
      assert.deepEqual(texts(await stores[0]!.bus.collect('node')), [`letter ${round}`])
    }
    await subscription.close()
  })

  all('bus: published texts reach those who listen to that channel, and nobody else', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    const heard = new Map<string, Set<string>>()
    const channels = ['a', 'a:b', 'A', '*', '%', '\'quoted\' "twice"', 'ž🐎', `long ${'x'.repeat(150)}`]
    const subscriptions = []
    for (const channel of channels) {
      const set = new Set<string>()
      heard.set(channel, set)
      subscriptions.push(await here.bus.subscribe(channel, (text) => text !== undefined && set.add(text)))
    }
    const text = (channel: string) => JSON.stringify({ channel, more: 'ž🐎\n' })
    await eventually('each text is heard', async () => {
      for (const channel of channels) await there.bus.publish(channel, text(channel))
      return channels.every((channel) => heard.get(channel)!.size > 0)
    })
    for (const channel of channels) assert.deepEqual([...heard.get(channel)!], [text(channel)])
    for (const subscription of subscriptions) await subscription.close()
  })

  all('bus: two listeners of one channel both hear; a closed subscription does not', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    const heard: string[][] = [[], [], []]
    const listen = (i: number) =>
      here.bus.subscribe('c', (text) => text !== undefined && heard[i]!.push(text))
    const first = await listen(0)
    await listen(1)
    await eventually('both hear', async () => {
      await there.bus.publish('c', 'one')
      return heard[0]!.includes('one') && heard[1]!.includes('one')
    })
    await first.close()
    await first.close()
    heard[0]!.length = 0
    await eventually('the second hears', async () => {
      await there.bus.publish('c', 'two')
      return heard[1]!.includes('two')
    })
    assert.ok(!heard[0]!.includes('two'))
    await listen(2)
    await eventually('a new one hears', async () => {
      await there.bus.publish('c', 'three')
      return heard[2]!.includes('three')
    })
  })
}
