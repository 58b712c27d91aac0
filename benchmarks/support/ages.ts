import pg from 'pg'
import { atOnce, message, type NewEvent } from './form.ts'
import { state, type World } from './world.ts'

/** One way to grow old; each comes on top of those before it. */
export interface Age {
  /** The backend that has it; left out: all. */
  readonly only?: string
  /** Resolves when the store is so old; what it resolves with ends what is still going on. */
  make(world: World, size: number): Promise<(() => Promise<void>) | undefined>
}

const HOURS = 24 * 3_600_000
const EVENTS_A_SESSION = 100

export const AGES = {
  /** Stored, not expired. */
  events: {
    async make(world, size) {
      const logs = Array.from({ length: size / EVENTS_A_SESSION }, () => world.fresh('old'))
      await atOnce(16, logs, (id) => fill(world, id))
      for (const id of logs.filter((_, i) => i % Math.ceil(logs.length / 100) === 0)) {
        const { events } = await world.store.log.read({
          sessionId: id,
          after: 0,
          limit: EVENTS_A_SESSION + 1,
        })
        if (events.length !== EVENTS_A_SESSION) throw new Error(`${id}: ${events.length} events read`)
      }
    },
  },
  /** Sent from one node to another, and received. */
  messages: {
    async make(world, size) {
      await world.exchange(size, 256)
    },
  },
  /** Nobody holds them, and they have not expired. */
  sessions: {
    async make({ store, fresh }, size) {
      const ids = Array.from({ length: size }, () => fresh('stored'))
      await atOnce(256, ids, (id) =>
        store.sessions.create({ id, principal: null, state, owner: 'gone', ttl: HOURS }),
      )
      for (const id of [ids[0]!, ids[ids.length >> 1]!, ids.at(-1)!]) {
        if (!(await store.sessions.get(id))) throw new Error(`session ${id} was lost`)
      }
    },
  },
  /** Somebody has a transaction open in the same database, and nothing that dies meanwhile can be cleared away. */
  'idle transaction': {
    only: 'postgres',
    async make(world, size) {
      const url = new URL(world.url)
      url.searchParams.delete('schema')
      const client = new pg.Client(url.toString())
      await client.connect()
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
      await client.query('SELECT count(*) FROM pg_class')
      await world.exchange(size / 10, 256)
      const lives = Array.from({ length: size / 50 }, () => world.fresh('life'))
      await atOnce(64, lives, async (id) => {
        const { sessions, log } = world.store
        const generation = await sessions.create({ id, principal: null, state, owner: 'bench', ttl: HOURS })
        await log.append({ sessionId: id, generation, ttl: HOURS, events: call() })
        await sessions.terminate(id)
      })
      return () => client.end()
    },
  },
} satisfies Record<string, Age>

async function fill({ store }: World, sessionId: string): Promise<void> {
  const events = Array.from({ length: EVENTS_A_SESSION / 2 }, call).flat()
  await store.log.append({ sessionId, events, ttl: HOURS })
}

let calls = 0

function call(): NewEvent[] {
  calls += 1
  const streamId = `old-${calls}`
  return (['open', 'final'] as const).map((kind) => ({ streamId, kind, payload: message() }))
}
