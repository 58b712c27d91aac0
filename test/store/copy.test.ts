import { expect, onTestFinished, test } from 'vitest'
import { copyStore } from '../../src/cli/copy-store.ts'
import { MemoryEventStore } from '../../src/index.ts'
import type { LogPage, Tombstone, Transfer } from '../../src/store/port.ts'
import { createStore, type Store } from '../../src/store/store.ts'

const HOUR = 3_600_000
const state = { initialize: '{}', protocolVersion: '2025-11-25' }

function open(): MemoryEventStore {
  const store = new MemoryEventStore()
  onTestFinished(() => store.close())
  return store
}

async function begin(store: Store, id: string, events = 3): Promise<number> {
  const generation = await store.sessions.create({ id, principal: null, state, owner: 'node', ttl: HOUR })
  const all = Array.from({ length: events }, (_, i) => ({
    streamId: 'a',
    kind: 'message' as const,
    payload: `{"n":${i}}`,
  }))
  await store.log.append({ sessionId: id, events: all, generation, ttl: HOUR })
  return generation
}

const copy = (from: Store, to: Store) => copyStore(from, to, () => {})

test('a session that was terminated between two copies does not live on at the destination', async () => {
  const [from, to] = [open(), open()]
  for (const id of ['ended', 'lives']) await begin(from, id)
  await begin(to, 'of its own')
  expect(await copy(from, to)).toMatchObject({ sessions: 2, ended: 0 })
  await from.sessions.terminate('ended')
  expect(await copy(from, to)).toMatchObject({ sessions: 1, ended: 1, leftAlone: 0, unverified: 0 })
  expect(await to.sessions.get('ended')).toBeUndefined()
  expect((await to.log.read({ sessionId: 'ended', after: 0, limit: 10 })).events).toEqual([])
  const taken = to.sessions.create({ id: 'ended', principal: null, state, owner: 'node', ttl: HOUR })
  await expect(taken).rejects.toMatchObject({ code: 'SESSION_GONE' })
  expect(await to.sessions.get('lives')).toBeDefined()
  expect(await to.sessions.get('of its own')).toBeDefined()
  expect(await copy(from, to)).toMatchObject({ ended: 0 })
})

test('a session that is terminated while it is copied ends too, and one that only expired is left alone', async () => {
  const [from, to] = [open(), open()]
  await begin(from, 'ended')
  const meanwhile = withTransfer(from, (transfer) => ({
    ...transfer,
    async take(query) {
      const page = await transfer.take(query)
      if (page && 'events' in page) await from.sessions.terminate('ended')
      return page
    },
  }))
  expect(await copy(meanwhile, to)).toMatchObject({ sessions: 1, ended: 1 })
  expect(await to.sessions.get('ended')).toBeUndefined()
  await begin(to, 'expired at the source')
  expect(await copy(from, to)).toMatchObject({ ended: 0 })
  expect(await to.sessions.get('expired at the source')).toBeDefined()
})

test('what is open at the source is open at the destination', async () => {
  const [from, to] = [open(), open()]
  const generation = await begin(from, 's')
  const event = { streamId: 'call', kind: 'open', payload: '{"id":1}' } as const
  await from.log.append({ sessionId: 's', events: [event], generation, ttl: HOUR })
  await copy(from, to)
  const claimed = await to.sessions.claim('s', { owner: 'next', generation })
  expect(claimed?.open).toEqual([{ streamId: 'call', payload: '{"id":1}', runs: 1 }])
})

test('hundreds of events that cannot be decoded neither end a copy nor hide what follows', async () => {
  const [from, to] = [open(), open()]
  await begin(from, 's', 1000)
  const isBad = (position: number) => position > 20 && position <= 720
  const source = withTransfer(from, (transfer) => ({
    ...transfer,
    async take(query) {
      const page = await transfer.take(query)
      if (!page || !('events' in page)) return page
      const events = page.events.filter(({ position }) => !isBad(position))
      return { ...page, events, corrupt: page.events.length - events.length }
    },
  }))
  expect(await copy(source, to)).toMatchObject({ logs: 1, events: 300, undecodable: 700, unverified: 0 })
  const page = await to.log.read({ sessionId: 's', after: 0, limit: 1000 })
  expect(page.events.length).toBe(300)
  expect(page.events.at(-1)?.payload).toBe('{"n":999}')
})

type Methods = { [Name in keyof Transfer]: Transfer[Name] } & {
  take(query: Parameters<Transfer['take']>[0]): Promise<LogPage | Tombstone | undefined>
}

/** The same store, whose transfer does something besides. */
function withTransfer(store: MemoryEventStore, change: (transfer: Methods) => Methods): Store {
  const inner = store.transfer!
  const transfer = change({
    ids: () => inner.ids(),
    take: (query) => inner.take(query),
    put: (page) => inner.put(page),
  })
  const { backend, traits, log, sessions, nodes, bus, tasks } = store
  const parts = { backend, traits, log, sessions, nodes, bus, tasks, transfer }
  return createStore({
    ...parts,
    ready: () => store.ready(),
    ping: () => store.ping(),
    health: () => store.health(),
    stats: () => store.stats(),
    sweep: (options) => store.sweep(options),
    close: () => store.close(),
  })
}
