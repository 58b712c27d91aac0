import { setTimeout as sleep } from 'node:timers/promises'
import { atOnce, message } from './form.ts'
import { state, type World } from './world.ts'

export interface Operation {
  /** Default 25. Short ones, so that what else the machine does meets few of them. */
  readonly rounds?: number
  /** Ms that one takes; `once`: as few times as show that it works. */
  run(world: World, once: boolean): Promise<number>
}

const HOUR = 3_600_000
const PAGE = 500
/** Sessions that a step of the sweep finds, with four events each. */
const DUE = 50
/** Ms that they live: each has its events by then, also on a machine that is busy. */
const SHORT = 800

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  append: { run: (world, once) => timed(once ? 20 : 100, (i) => appendTo(world, i)) },
  'append, 256 at once': {
    run(world, once) {
      const count = once ? 256 : 2_560
      return timed(1, () => atOnce(256, range(count), (i) => appendTo(world, i)), count)
    },
  },
  'sessions.get': {
    run: ({ store, sessions }, once) =>
      timed(once ? 20 : 200, async (i) => {
        const id = sessions[(i * 7) % sessions.length]!
        if (!(await store.sessions.get(id))) throw new Error(`session ${id} was lost`)
      }),
  },
  create: {
    run: ({ store, fresh }, once) =>
      timed(once ? 20 : 100, () => store.sessions.create(mine(fresh('made'), HOUR))),
  },
  claim: {
    async run({ store, fresh }, once) {
      const id = fresh('claimed')
      let generation = await store.sessions.create(mine(id, HOUR))
      return timed(once ? 20 : 100, async () => {
        const claimed = await store.sessions.claim(id, { owner: 'bench', generation })
        if (!claimed) throw new Error(`session ${id} was not to be had`)
        generation = claimed.generation
      })
    },
  },
  touch: {
    run: ({ store, sessions }, once) =>
      timed(once ? 20 : 100, (i) =>
        store.sessions.touch([{ id: sessions[(i * 7) % sessions.length]!, ttl: HOUR }]),
      ),
  },
  'send and receive': { run: (world, once) => timed(once ? 20 : 100, () => world.exchange(1, 1)) },
  'replay of a page': {
    async run({ store, fresh }, once) {
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
  },
  'sweep step': {
    // Each waits for sessions to expire.
    rounds: 5,
    async run({ store, fresh }) {
      await atOnce(DUE, range(DUE), async () => {
        const id = fresh('short')
        const generation = await store.sessions.create(mine(id, SHORT))
        const events = range(4).map(() => ({ streamId: 'a', kind: 'message' as const, payload: message() }))
        await store.log.append({ sessionId: id, events, generation, ttl: SHORT })
      })
      // A store may let a session live for a tenth longer.
      await sleep(SHORT * 1.1 + 100)
      const started = performance.now()
      const { sessions } = await store.sweep({ limit: 1_000 })
      const time = performance.now() - started
      if (sessions !== DUE) throw new Error(`${sessions} of ${DUE} sessions swept`)
      return time
    },
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
