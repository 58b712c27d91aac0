import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import { afterAll, describe, test } from 'vitest'
import { RedisEventStore, type RedisEventStoreOptions } from '../../src/store/redis/redis-store.ts'
import { storeContract } from '../../src/testing.ts'

/** What of the store contract does not apply to Redis, and why. */
const EXCEPTIONS = {
  'sweep: bounded steps, a dry run deletes nothing, and the counts are right':
    'Redis expires events by itself, so the sweep finds none to count; test/redis/sweep.test.ts has the rest of it',
}

/** A driver of the tests' own, to look behind the store's back. */
export function driver(url: string): Redis | Cluster {
  if (!url.startsWith('redis+cluster:')) return new Redis(url)
  return new Cluster(
    url
      .replace(/^.*\/\//, '')
      .split(',')
      .map((address) => `redis://${address}`),
  )
}

/** The store contract over a shared server: each test has a key prefix of its own. `how`: a client instead of the URL. */
export function redisContract(name: string, url: string, how: RedisEventStoreOptions = { url }): void {
  const client = driver(url)
  let keyPrefix = ''
  afterAll(() => client.disconnect())

  describe(name, () => {
    storeContract({
      test,
      open() {
        keyPrefix = `contract:${randomUUID()}:`
        return new RedisEventStore({ ...how, keyPrefix })
      },
      second: () => new RedisEventStore({ ...how, keyPrefix }),
      async corrupt(sessionId, position) {
        const log = `${keyPrefix}s:{${sessionId}}`
        const entries = await client.lrangeBuffer(log, 0, -1)
        const index = entries.findIndex((entry) => entry.readUIntBE(0, 6) * 256 + entry[6]! === position)
        await client.lset(log, index, 'not an entry')
      },
      exceptions: EXCEPTIONS,
    })
  })
}
