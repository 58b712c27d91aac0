import { setTimeout as sleep } from 'node:timers/promises'
import { atOnce, message } from './form.ts'
import { state, type World } from './world.ts'

/** Ms that one takes; `once`: as few times as show that it works. */
type Operation = (world: World, once: boolean) => Promise<number>

const HOUR = 3_600_000
const PAGE = 500
/** Sessions that a step of the sweep finds, with four events each. */
const DUE = 50
/** Ms that they live. All are made by then, or made again. */
const SHORT = 400

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  append: (world, once) => timed(once ? 20 : 500, (i) => appendTo(world, i)),
  async 'append, 256 at once'(world, once) {
    const count = once ? 256 : 5_000
    return timed(1, () => atOnce(256, range(count), (i) => appendTo(world, i)), count)
  },
  'sessions.get': ({ store, sessions }, once) =>
    timed(once ? 20 : 500, async (i) => {
      const id = sessions[(i * 7) % sessions.length]!
      if (!(await store.sessions.get(id))) throw new Error(`session ${id} was lost`)
    }),
  create: ({ store, fresh }, once) =>
    timed(once ? 20 : 200, () => store.sessions.create(mine(fresh('made'), HOUR))),
  async claim({ store, fresh }, once) {
    const id = fresh('claimed')
    let generation = await store.sessions.create(mine(id, HOUR))
    return timed(once ? 20 : 200, async () => {
      const claimed = await store.sessions.claim(id, { owner: 'bench', generation })
      if (!claimed) throw new Error(`session ${id} was not to be had`)
      generation = claimed.generation
    })
  },
  touch: ({ store, sessions }, once) =>
    timed(once ? 20 : 200, (i) =>
      store.sessions.touch([{ id: sessions[(i * 7) % sessions.length]!, ttl: HOUR }]),
    ),
  'send and receive': (world, once) => timed(once ? 20 : 300, () => world.exchange(1, 1)),
  async 'replay of a page'({ store, fresh }, once) {
    const sessionId = fresh('replayed')
    const event = () => ({ streamId: 'stream', kind: 'message' as const, payload: message() })
    const events = Array.from({ length: PAGE }, event)
    await store.log.append({ sessionId, events, ttl: HOUR })
    const time = await timed(once ? 5 : 20, async () => {
      const page = await store.log.read({ sessionId, streamId: 'stream', after: 0, limit: PAGE })
      if (page.events.length !== PAGE) throw new Error(`${page.events.length} of ${PAGE} events read`)
    })
    await store.log.delete(sessionId)
    return time
  },
  async 'sweep step'({ store, fresh }) {
    const made = performance.now()
    await atOnce(DUE, range(DUE), async () => {
      const id = fresh('short')
      const generation = await store.sessions.create(mine(id, SHORT))
      const events = range(4).map(() => ({ streamId: 'a', kind: 'message' as const, payload: message() }))
      await store.log.append({ sessionId: id, events, generation, ttl: SHORT })
    })
    // A store may let a session live for a tenth longer.
    await sleep(Math.max(0, made + SHORT * 1.2 + 100 - performance.now()))
    const started = performance.now()
    const { sessions } = await store.sweep({ limit: 1_000 })
    const time = performance.now() - started
    if (sessions !== DUE) throw new Error(`${sessions} of ${DUE} sessions swept`)
    return time
  },
}

function mine(id: string, ttl: number) {
  return { id, principal: null, state, owner: 'bench', ttl }
}

function appendTo({ ledger, sessions }: World, i: number): Promise<void> {
  return ledger.append(sessions[i % sessions.length]!)
}

/** Ms of one, of so many one after the other; each of them of `of` parts. */
async function timed(count: number, run: (i: number) => Promise<unknown>, of = 1): Promise<number> {
  const started = performance.now()
  for (let i = 0; i < count; i += 1) await run(i)
  return (performance.now() - started) / (count * of)
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}
