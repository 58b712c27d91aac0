import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { RedisEventStore, type RedisEventStoreOptions } from '../../src/store/redis/redis-store.ts'
import { storeContract } from '../../src/testing.ts'
import { TcpProxy } from './net/tcp-proxy.ts'

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
export function redisContract(
  name: string,
  url: string,
  how: (url: string) => RedisEventStoreOptions = (each) => ({ url: each }),
): void {
  const client = driver(url)
  let keyPrefix = ''
  let proxy: TcpProxy | undefined
  // What a cluster's servers say of each other leads past a proxy.
  const isCuttable = !url.startsWith('redis+cluster:')
  const through = () => how(proxy ? proxy.urlOf(url) : url)
  beforeAll(async () => {
    if (isCuttable) proxy = await TcpProxy.to(url, 6379)
  })
  afterAll(async () => {
    client.disconnect()
    await proxy?.close()
  })

  describe(name, () => {
    storeContract({
      test,
      open() {
        keyPrefix = `contract:${randomUUID()}:`
        return new RedisEventStore({ ...through(), keyPrefix })
      },
      second: () => new RedisEventStore({ ...through(), keyPrefix }),
      ...(isCuttable && { cut: (what: 'now' | 'answer') => proxy!.cut(what) }),
      snapshot: () => snapshot(client, keyPrefix),
      parcels: {
        count: async () => (await keysOf(client, `${keyPrefix}n:*:parcel:*`)).length,
        async age() {
          for (const key of await keysOf(client, `${keyPrefix}n:*:parcel:*`)) {
            assert.ok((await client.pttl(key)) > 0, 'it expires by itself')
            await client.pexpire(key, 1)
          }
        },
      },
      async corrupt(sessionId, position) {
        const log = `${keyPrefix}s:{${sessionId}}`
        const entries = await client.lrangeBuffer(log, 0, -1)
        // The first is the head, which begins with the last position.
        const index = entries.findIndex(
          (entry, i) => i > 0 && entry.readUIntBE(0, 6) * 256 + entry[6]! === position,
        )
        await client.lset(log, index, 'not an entry')
      },
      exceptions: EXCEPTIONS,
    })
  })
}

async function keysOf(client: Redis | Cluster, pattern: string): Promise<string[]> {
  const nodes = client instanceof Cluster ? client.nodes('master') : [client]
  return (await Promise.all(nodes.map((node) => node.keys(pattern)))).flat()
}

/** Every key of a prefix as it is now; the function brings them back, and nothing else. */
async function snapshot(client: Redis | Cluster, keyPrefix: string): Promise<() => Promise<void>> {
  const keys = () => keysOf(client, `${keyPrefix}*`)
  const kept = await Promise.all(
    (await keys()).map(async (key) => ({
      key,
      ttl: Math.max(0, await client.pttl(key)),
      value: await client.dumpBuffer(key),
    })),
  )
  return async () => {
    for (const key of await keys()) await client.del(key)
    for (const { key, ttl, value } of kept) if (value) await client.restore(key, ttl, value)
  }
}
