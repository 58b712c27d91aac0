import assert from 'node:assert/strict'
import { isPersistError } from '../errors.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import {
  append,
  claimed,
  eventually,
  MINUTE,
  payloads,
  range,
  session,
  startNode,
  state,
  turn,
} from './support.ts'

/** Every call settles within its own time limit; this is far beyond it. */
const PATIENCE = 15_000

interface Held {
  readonly id: string
  readonly generation: number
}

/** What the engine asks of a store, each on a session, a task and a node of its own. */
const VERBS: Record<string, (store: Store, held: Held) => Promise<unknown>> = {
  ping: (store) => store.ping(),
  stats: (store) => store.stats(),
  sweep: (store) => store.sweep({ limit: 10 }),
  'log.append': (store, { id, generation }) => append(store, id, 'a', 'the one', { generation }),
  'log.read': (store, { id }) => store.log.read({ sessionId: id, after: 0, limit: 10 }),
  'log.delete': (store, { id }) => store.log.delete(`log of ${id}`),
  'sessions.create': (store, { id }) => store.sessions.create(session(`other ${id}`, 'node')),
  'sessions.get': (store, { id }) => store.sessions.get(id),
  'sessions.claim': (store, { id, generation }) => store.sessions.claim(id, { owner: 'node', generation }),
  'sessions.update': (store, { id, generation }) => store.sessions.update(id, generation, state),
  'sessions.release': (store, { id, generation }) => store.sessions.release(id, generation),
  'sessions.touch': (store, { id, generation }) =>
    store.sessions.touch([{ id, ttl: MINUTE, generation, delivered: 3 }]),
  'sessions.terminate': (store, { id }) => store.sessions.terminate(id),
  'sessions.list': (store) => store.sessions.list({ limit: 10 }),
  'nodes.register': (store, { id }) =>
    store.nodes.register({ id: `node of ${id}`, publicKey: 'key', profile: '{}' }, MINUTE),
  'nodes.renew': (store) => store.nodes.renew('node', MINUTE),
  'nodes.get': (store) => store.nodes.get('node'),
  'nodes.unregister': (store, { id }) => store.nodes.unregister(`node of ${id}`),
  'bus.send, small': (store) => store.bus.send('node', Buffer.from('x')),
  'bus.send, large': (store) => store.bus.send('node', Buffer.alloc(100_000)),
  'bus.publish': (store) => store.bus.publish('channel', 'text'),
  'tasks.create': (store, { id }) =>
    store.tasks.create({ id: `task of ${id}`, sessionId: null, value: '', ttl: MINUTE }),
  'tasks.get': (store, { id }) => store.tasks.get(id),
  'tasks.replace': (store, { id }) => store.tasks.replace(id, { version: 1, value: 'b' }),
  'tasks.push': (store, { id }) => store.tasks.push(id, { text: 'x', limit: 10 }),
  'tasks.shift': (store, { id }) => store.tasks.shift(id, { limit: 10 }),
  'tasks.list': (store) => store.tasks.list({ sessionId: null, limit: 10 }),
}

/** Undefined: it resolved. It may only have failed because the store was away, and never hangs. */
async function settled(what: string, call: Promise<unknown>): Promise<unknown> {
  const outcome = call.then(
    () => undefined,
    (error: unknown) => error,
  )
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, 'late').unref())
  const result = await Promise.race([outcome, late])
  assert.notEqual(result, 'late', `${what} did not settle within ${PATIENCE} ms`)
  const isAway = result === undefined || isPersistError(result, 'STORE_UNAVAILABLE')
  assert.ok(isAway, `${what} failed otherwise than by the cut: ${result}`)
  return result
}

/** As often as it takes: whoever was told that the store is away asks again. */
async function again<T>(what: string, call: () => Promise<T>): Promise<{ readonly value: T }> {
  return eventually<{ readonly value: T } | undefined>(what, async () => {
    try {
      return { value: await call() }
    } catch (error) {
      assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${what}: ${error}`)
      return undefined
    }
  })
}

export function cutConnections({ all, cut }: Suite): void {
  if (!cut) return

  for (const what of ['now', 'answer'] as const) {
    all(`a cut connection (${what}): every call settles, and works again afterwards`, async (stores) => {
      const [store, other] = [stores[0]!, stores.at(-1)!]
      await startNode(store, 'node')
      for (const [i, [name, verb]] of Object.entries(VERBS).entries()) {
        const id = `s${i}`
        const generation = await store.sessions.create(session(id, 'gone'))
        await store.tasks.create({ id, sessionId: null, value: 'a', ttl: MINUTE })
        const held = { id, generation }
        let call: Promise<unknown>
        if (what === 'answer') {
          await cut('answer')
          call = verb(store, held)
        } else {
          call = verb(store, held)
          await turn()
          await cut('now')
        }
        await settled(name, call)
        await again(`the store answers after ${name}`, () => store.ping())
        await again(`the other answers after ${name}`, () => other.ping())
        if (name === 'sessions.claim') {
          // Whether or not it was done: the claimant can find out, and have it.
          const found = (await again('a look', () => store.sessions.get(id))).value!
          assert.ok(found.generation === generation || found.owner === 'node')
          await again('a claim', () => claimed(store, id, 'node', found.generation))
        }
        if (name === 'sessions.terminate') {
          await again('a termination', () => store.sessions.terminate(id))
          assert.equal((await again('a look', () => store.sessions.get(id))).value, undefined)
        }
      }
    })
  }

  all(
    'a cut connection: nothing appended is stored twice, out of order, or lost without a word',
    async (stores) => {
      const store = stores[0]!
      const generations = new Map<string, number>()
      for (const id of ['s0', 's1', 's2']) {
        generations.set(id, await store.sessions.create(session(id, 'node')))
      }
      const acknowledged = new Map<string, string[]>([...generations.keys()].map((id) => [id, []]))
      const failures: unknown[] = []
      for (const round of range(24)) {
        const calls = [...generations].flatMap(([id, generation]) =>
          range(4).map((i) => {
            const payload = `${String(round).padStart(2, '0')}.${i}`
            return append(store, id, 'a', payload, { generation }).then(
              () => void acknowledged.get(id)!.push(payload),
              (error: unknown) => void failures.push(error),
            )
          }),
        )
        if (round % 2 === 0) await turn()
        await cut(round % 3 === 0 ? 'now' : 'answer')
        await settled(`round ${round}`, Promise.all(calls))
        await again('the store answers', () => store.ping())
      }
      for (const error of failures) assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${error}`)
      for (const id of generations.keys()) {
        const found = (await again('a look', () => payloads(store, id))).value
        assert.equal(new Set(found).size, found.length, 'none is stored twice')
        assert.deepEqual(found, [...found].sort(), 'they are in the order of the calls')
        const missing = acknowledged.get(id)!.filter((payload) => !found.includes(payload))
        assert.deepEqual(missing, [], 'all that was acknowledged is there')
      }
    },
  )

  all(
    'a cut connection: receivers and listeners are told that they may have missed something, and hear again',
    async (stores) => {
      const [here, there] = [stores[0]!, stores.at(-1)!]
      const heard = { messages: [] as string[], texts: [] as string[], missed: 0, looked: 0 }
      await here.bus.receive('node', (bytes) => {
        if (bytes === undefined) heard.missed += 1
        else heard.messages.push(Buffer.from(bytes).toString())
      })
      await here.bus.subscribe('channel', (text) => {
        if (text === undefined) heard.looked += 1
        else heard.texts.push(text)
      })
      await here.nodes.register({ id: 'node', publicKey: 'key', profile: '{}' }, MINUTE)
      for (const round of range(3)) {
        const before = { ...heard }
        await cut('now')
        await eventually('the receiver is told', () => heard.missed > before.missed)
        await eventually('the listener is told', () => heard.looked > before.looked)
        const large = `${round} ${'x'.repeat(100_000)}`
        for (const text of [`small ${round}`, large]) {
          await eventually('what is sent arrives', async () => {
            await there.bus.send('node', Buffer.from(text)).catch(() => {})
            return heard.messages.includes(text)
          })
        }
        await eventually('what is published arrives', async () => {
          await there.bus.publish('channel', `text ${round}`).catch(() => {})
          return heard.texts.includes(`text ${round}`)
        })
        const { value } = await again('the node is looked for', () => there.nodes.get('node'))
        assert.ok(value, 'a node whose connection broke for a moment is not dead')
      }
    },
  )

  all('a cut connection: of the messages of a queue none is given out twice', async (stores) => {
    const store = stores[0]!
    await store.tasks.create({ id: 't', sessionId: null, value: '', ttl: MINUTE })
    const taken: string[] = []
    for (const i of range(12)) {
      const push = store.tasks.push('t', { text: `${i}`, limit: 100 })
      await cut(i % 2 ? 'answer' : 'now')
      await settled('push', push)
      await again('the store answers', () => store.ping())
      const shift = store.tasks.shift('t', { limit: 1 })
      await cut(i % 3 ? 'answer' : 'now')
      await settled(
        'shift',
        shift.then((texts) => void taken.push(...texts)),
      )
      await again('the store answers', () => store.ping())
    }
    taken.push(...(await again('the rest', () => store.tasks.shift('t', { limit: 100 }))).value)
    assert.equal(new Set(taken).size, taken.length)
    assert.deepEqual(
      taken,
      [...taken].sort((a, b) => Number(a) - Number(b)),
    )
  })
}
