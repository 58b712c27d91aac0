import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { MemoryEventStore } from '../../../src/index.ts'
import { Link } from '../../../src/session/cluster/link.ts'
import type { Item } from '../../../src/session/cluster/message.ts'
import { Peers, type PeersOptions } from '../../../src/session/cluster/peers.ts'
import type { Identity } from '../../../src/session/ownership/membership.ts'
import { PROFILE } from '../../../src/versions.ts'
import { until, within } from '../../support/wait.ts'

const LEASE = 60_000
const logger = { debug() {}, info() {}, warn() {}, error() {} }

async function identityIn(store: MemoryEventStore, profile: object = PROFILE): Promise<Identity> {
  const { privateKey, publicKey } = generateKeyPairSync('x25519')
  const exported = publicKey.export({ type: 'spki', format: 'der' }).toString('base64url')
  const identity = { id: randomBytes(9).toString('base64url'), privateKey, publicKey: exported }
  await store.nodes.register({ ...identity, profile: JSON.stringify(profile) }, LEASE)
  return identity
}

/** The other nodes as one of them sees them; nothing here needs a session of its own. */
async function peersIn(store: MemoryEventStore) {
  const newTail = () => ({ closed: false, nudge: () => {}, cut: () => {} })
  const options = { directory: store, newTail, settings: { lease: LEASE, logger, retryInterval: 20 } }
  const peers = new Peers(options as unknown as PeersOptions)
  onTestFinished(async () => {
    await peers.close(0)
    await store.close()
  })
  const identity = await identityIn(store)
  await peers.open(identity)
  const request = { method: 'POST', url: '/mcp', headers: {} }
  const asked = { sessionId: 's', principal: {}, streamId: 'a', again: false, request }
  const ask = (nodeId: string) => within('an answer', peers.forwarder.forward(nodeId, asked as never), 5000)
  return { id: identity.id, peers, ask }
}

test('whoever is asked after its goodbye, because the store still knows it, is gone: nobody waits for it', async () => {
  const store = new MemoryEventStore()
  const { id, ask } = await peersIn(store)
  const leaving = await identityIn(store)
  const heard = () => {}
  const link = new Link({
    ...{ bus: store.bus, nodes: store.nodes, logger },
    ...{ onItem: heard, onGone: heard, onNotSpoken: heard, onMissed: heard },
  })
  await link.open(leaving)
  const first = ask(leaving.id)
  link.send(id, { type: 'bye' })
  await link.close()
  expect(await first).toBe('recorded')
  // Its record is still there for a moment.
  const late = ask(leaving.id)
  await store.nodes.unregister(leaving.id)
  expect(await late).toBe('recorded')
})

test('one that speaks nothing of ours is asked in vain, at once and each time, and is no heir to anything', async () => {
  const store = new MemoryEventStore()
  const { peers, ask } = await peersIn(store)
  const stranger = await identityIn(store, { messages: [7, 8], formats: [1, 8] })
  expect(await peers.another(new Set(), 1)).toBeUndefined()
  for (let i = 0; i < 3; i += 1) {
    expect(await ask(stranger.id)).toBe('recorded')
    expect(peers.isStranger(stranger.id)).toBe(true)
  }
  const reader = await identityIn(store, { messages: [1, 8], formats: [7, 8] })
  expect(await peers.another(new Set(), 1)).toBeUndefined()
  expect(await peers.another(new Set(), 8)).toBe(reader.id)
  expect(await peers.another(new Set([reader.id]), 8)).toBeUndefined()
})

test('a stream whose answer has just come is in the list of what is followed, or may be', async () => {
  const store = new MemoryEventStore()
  const { id, ask } = await peersIn(store)
  const owner = await identityIn(store)
  const lists: Item[] = []
  const link: Link<Item> = new Link<Item>({
    ...{ bus: store.bus, nodes: store.nodes, logger },
    ...{ onGone: () => {}, onNotSpoken: () => {}, onMissed: () => {} },
    onItem: (_from, item) => {
      if (item.type === 'list') lists.push(item)
      if (item.type !== 'ask') return
      // One bundle: the question what it is that is followed comes right behind the answer.
      const stream = { streamId: 'a', after: 0, priming: false }
      const answer = { kind: 'stream', status: 200, headers: [], stream }
      link.send(id, { type: 'answer', id: 1, answer } as Item)
      link.send(id, { type: 'which' })
    },
  })
  onTestFinished(() => link.close())
  await link.open(owner)
  await ask(owner.id)
  await until('the list', () => lists.length > 0)
  const { ids, open, next } = lists[0] as unknown as { ids: number[]; open: number[]; next: number }
  expect([...ids, ...open]).toContain(1)
  expect(next).toBe(2)
})
