import { Redis } from 'ioredis'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'

/** What a writing process is told: `naive` is the control, ids from a counter and events stored in a second step. */
export interface WritersOrder {
  readonly url: string
  readonly keyPrefix: string
  readonly form: 'store' | 'naive'
  readonly writers: readonly string[]
  readonly each: number
}

const order = JSON.parse(process.argv[2]!) as WritersOrder
const { url, keyPrefix, form, writers, each } = order

if (form === 'store') {
  const store = new RedisEventStore({ url, keyPrefix })
  await run((payload) => {
    const events = [{ streamId: 'a', kind: 'message', payload }] as const
    return store.log.append({ sessionId: 's', events, ttl: 600_000 })
  })
  await store.close()
} else {
  const client = new Redis(url)
  await run(async (payload) => {
    const id = await client.incr(`${keyPrefix}counter`)
    await client.zadd(`${keyPrefix}events`, id, payload)
  })
  client.disconnect()
}

/** Each writer sends bursts of ten without waiting in between, so that appends meet in batches and across processes. */
async function run(append: (payload: string) => Promise<unknown>): Promise<void> {
  await Promise.all(
    writers.map(async (writer) => {
      for (let i = 0; i < each; ) {
        const burst: Promise<unknown>[] = []
        for (const end = Math.min(i + 10, each); i < end; i++) burst.push(append(`${writer}:${i}`))
        await Promise.all(burst)
      }
    }),
  )
}
