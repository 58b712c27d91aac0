import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { MemoryEventStore } from '../../../src/index.ts'
import { Link } from '../../../src/session/cluster/link.ts'
import type { Item } from '../../../src/session/cluster/message.ts'
import type { Identity } from '../../../src/session/ownership/membership.ts'
import { PROFILE } from '../../../src/versions.ts'
import { until } from '../../support/wait.ts'

const LEASE = 60_000
const silent = { debug() {}, info() {}, warn() {}, error() {} }

function newIdentity(): Identity {
  const { privateKey, publicKey } = generateKeyPairSync('x25519')
  const exported = publicKey.export({ type: 'spki', format: 'der' }).toString('base64url')
  return { id: randomBytes(9).toString('base64url'), privateKey, publicKey: exported }
}

/** A link of a node with this profile, and all that it hears. */
async function node(store: MemoryEventStore, profile: object = PROFILE) {
  const identity = newIdentity()
  const heard: string[] = []
  const link = new Link<Item>({
    bus: store.bus,
    nodes: store.nodes,
    logger: silent,
    onItem: (_from, { type }) => heard.push(type),
    onGone: (id) => heard.push(`gone: ${id}`),
    onNotSpoken: (id) => heard.push(`not spoken: ${id}`),
    onMissed: () => {},
  })
  await link.open(identity)
  await store.nodes.register({ ...identity, profile: JSON.stringify(profile) }, LEASE)
  return { id: identity.id, link, heard }
}

function newStore(): MemoryEventStore {
  const store = new MemoryEventStore()
  onTestFinished(() => store.close())
  return store
}

test('a version that is not spoken is answered so, in bytes that never change', async () => {
  const store = newStore()
  const { id, heard } = await node(store)
  const profile = JSON.stringify({ messages: [200, 200] })
  await store.nodes.register({ ...newIdentity(), id: 'stranger', profile }, LEASE)
  const answers: Buffer[] = []
  await store.bus.receive('stranger', (message) => message && answers.push(Buffer.from(message)))
  const header = (version: number, from: string) =>
    Buffer.concat([Buffer.from([version, from.length]), Buffer.from(from)])
  await store.bus.send(id, Buffer.concat([header(200, 'stranger'), Buffer.from('whatever follows')]))
  await until('the answer', () => answers.length > 0)
  expect(answers).toEqual([header(0, id)])

  // The same word from somebody else.
  await store.bus.send(id, header(0, 'stranger'))
  await until('that it is heard', () => heard.length > 0)
  expect(heard).toEqual(['not spoken: stranger'])
})

test.each([
  ['more', { messages: [1, 7] }, ['hello']],
  ['other ones only', { messages: [7, 8] }, []],
  ['nothing that is understood', { messages: 'all' }, []],
  ['nothing', {}, []],
])('to a node whose profile says that it speaks %s', async (_, profile, arrived) => {
  const store = newStore()
  const [one, other] = [await node(store), await node(store, profile)]
  one.link.send(other.id, { type: 'hello' })
  await one.link.flush()
  await until('an outcome', () => other.heard.length + one.heard.length > 0)
  expect(other.heard).toEqual(arrived)
  expect(one.heard).toEqual(arrived.length > 0 ? [] : [`not spoken: ${other.id}`])
})
