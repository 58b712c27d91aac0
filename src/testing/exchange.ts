import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { MESSAGE_LIMIT } from '../store/port.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import { eventually, MINUTE, range, rejectsWith, startNode } from './support.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Around what a backend may take for small: 8,000 bytes of a notification, 16 KiB of a publication. */
const LENGTHS = [
  0,
  1,
  255,
  5_800,
  ...[6_000, 8_000, 8 * KIB, 16 * KIB].flatMap((limit) => [limit - 1, limit, limit + 1]),
  64 * KIB,
  MIB,
]

/** Every byte there is, and no two alike. */
function bytesOf(length: number, seed: number): Uint8Array {
  const bytes = Buffer.alloc(length)
  for (let i = 0; i < length; i += 1) bytes[i] = (i * 31 + (i >> 8) + seed) & 0xff
  return bytes
}

const digest = (bytes: Uint8Array) => `${bytes.length}:${createHash('sha256').update(bytes).digest('hex')}`

/** What a node hears, by digest; `missed` counts the calls without a message. */
async function receiver(store: Store, nodeId: string) {
  const heard = new Map<string, number>()
  const state = { heard, missed: 0, total: 0, last: undefined as Uint8Array | undefined }
  const subscription = await store.bus.receive(nodeId, (message) => {
    state.total += 1
    if (message === undefined) {
      state.missed += 1
      return
    }
    assert.ok(message instanceof Uint8Array)
    state.last = message
    heard.set(digest(message), (heard.get(digest(message)) ?? 0) + 1)
  })
  return Object.assign(state, { close: () => subscription.close() })
}

const text = (bytes: string) => Buffer.from(bytes)

/** Nothing is promised of one message; on a healthy store each arrives all the same. */
export function exchange({ test, all, ms, parcels }: Suite): void {
  all('send: messages of any length arrive byte for byte, both ways', async (stores) => {
    const nodes = await Promise.all(
      stores.map(async (store, i) => {
        await startNode(store, `node-${i}`)
        return receiver(store, `node-${i}`)
      }),
    )
    for (const [i, node] of nodes.entries()) {
      const from = stores.at(i - 1)!
      const messages = LENGTHS.map((length) => bytesOf(length, i))
      for (const message of messages) assert.equal(await from.bus.send(`node-${i}`, message), true)
      await eventually('all arrive', () => messages.every((message) => node.heard.has(digest(message))))
      assert.equal(node.heard.size, messages.length, 'and nothing that was not sent')
    }
  })

  all('send: one of 40 MiB arrives', async (stores) => {
    await startNode(stores[0]!, 'node')
    const node = await receiver(stores[0]!, 'node')
    const message = Buffer.alloc(40 * MIB, 'žluť')
    assert.equal(await stores.at(-1)!.bus.send('node', message), true)
    await eventually('it arrives', () => node.last !== undefined, 20_000)
    assert.ok(message.equals(node.last!))
  })

  test('send: what is too long is refused', async (store) => {
    await startNode(store, 'node')
    await rejectsWith('INVALID_ARGUMENT', store.bus.send('node', new Uint8Array(MESSAGE_LIMIT + 1)))
  })

  all('send: many at once all arrive, each at its node', async (stores) => {
    const names = range(12).map((i) => `node-${i}`)
    const nodes = await Promise.all(
      names.map(async (name, i) => {
        const store = stores[i % stores.length]!
        await startNode(store, name)
        return receiver(store, name)
      }),
    )
    const sent = names.map((name) => range(40).map((i) => text(`${name} ${i} ${'x'.repeat(i * 50)}`)))
    const answers = sent.flatMap((messages, n) =>
      messages.map((message, i) => stores[i % stores.length]!.bus.send(names[n]!, message)),
    )
    assert.ok((await Promise.all(answers)).every((answer) => answer))
    for (const [n, { heard }] of nodes.entries()) {
      await eventually(`${names[n]} has heard all`, () => heard.size === 40)
      assert.deepEqual([...heard.keys()].sort(), sent[n]!.map(digest).sort())
    }
  })

  all('send: a node that is known to be gone is said to be', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    for (const message of [text('small'), bytesOf(100 * KIB, 1)]) {
      assert.equal(await there.bus.send('nobody', message), false)
      await startNode(here, 'left')
      assert.equal(await there.bus.send('left', message), true)
      await here.nodes.unregister('left')
      assert.equal(await there.bus.send('left', message), false)
      await startNode(here, 'lapsed', ms(300))
      await eventually('the lease is over', async () => !(await there.nodes.get('lapsed')))
      assert.equal(await there.bus.send('lapsed', message), false)
      // Registered again, it is there again.
      await startNode(here, 'lapsed')
      assert.equal(await there.bus.send('lapsed', message), true)
    }
  })

  all('receive: two of one node both hear, and a closed one is silent', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    await startNode(here, 'node')
    const [one, two] = [await receiver(here, 'node'), await receiver(here, 'node')]
    for (const message of [text('first'), bytesOf(100 * KIB, 1)]) {
      await there.bus.send('node', message)
      await eventually('both hear', () => [one, two].every(({ heard }) => heard.has(digest(message))))
    }
    await one.close()
    await one.close()
    const before = one.total
    for (const message of [text('second'), bytesOf(100 * KIB, 2)]) {
      await there.bus.send('node', message)
      await eventually('the other hears', () => two.heard.has(digest(message)))
    }
    assert.equal(one.total, before)
    const late = await receiver(here, 'node')
    await there.bus.send('node', text('third'))
    await eventually('a new one hears', () => late.heard.has(digest(text('third'))))
    assert.equal(one.total, before)
  })

  test('receive: closed with the store, it is silent and can be closed afterwards', async (store) => {
    await startNode(store, 'node')
    const node = await receiver(store, 'node')
    void store.bus.send('node', text('on its way')).catch(() => {})
    await store.close()
    const before = node.total
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(node.total, before)
    await node.close()
  })

  if (parcels) {
    all('send: what was stored on the way goes by itself', async (stores) => {
      await startNode(stores[0]!, 'node')
      const node = await receiver(stores[0]!, 'node')
      for (const i of range(3)) await stores.at(-1)!.bus.send('node', bytesOf(MIB, i))
      await eventually('all arrive', () => node.heard.size === 3)
      // Nobody takes what is sent to one that does not listen.
      await stores[0]!.nodes.register({ id: 'deaf', publicKey: 'key', profile: '{}' }, MINUTE)
      await stores.at(-1)!.bus.send('deaf', bytesOf(MIB, 3))
      await eventually(
        'nothing is left',
        async () => {
          await parcels.age()
          for (const store of stores) while ((await store.sweep({ limit: 100 })).more);
          return (await parcels.count()) === 0
        },
        25_000,
      )
    })
  }
}
