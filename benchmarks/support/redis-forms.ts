import { Redis } from 'ioredis'
import { openStore } from 'mcp-persist'
import { startRedis } from '../../test/support/services/redis.ts'
import { type Form, message, port, type Setting, type Sweep } from './form.ts'

export async function redis(durability: string): Promise<Setting> {
  const service = await startRedis({ persistence: durability as 'none' | 'everysec' })
  const store = openStore(service.url)
  await store.ready()
  const pipelined = new Redis(service.url, { enableAutoPipelining: true })
  const plain = new Redis(service.url)
  const version = /redis_version:(\S+)/.exec(await plain.info('server'))?.[1]
  const appendonly = durability === 'none' ? 'appendonly=no' : `appendonly=yes, appendfsync=${durability}`
  const idle = await plain.dbsize()
  return {
    backend: 'redis',
    title: `Redis ${version}, ${appendonly}`,
    durability: durability === 'none' ? 'appendonly=no' : `appendfsync=${durability}`,
    store,
    forms: {
      ours: port(store, () => memory(plain, 'mcp-persist:'), { records: true }),
      floor: streams(pipelined, plain),
      naive: hashes(plain),
    },
    logs: port(store, () => memory(plain, 'mcp-persist:'), { records: false }),
    sweeps: { floor: lists(plain), naive: keys(plain) },
    left: async () => Math.max(0, (await plain.dbsize()) - idle),
    async close() {
      await store.close()
      pipelined.disconnect()
      plain.disconnect()
      await service.stop()
    },
  }
}

/** Plain XADD, put together by the driver; no expiry, no fence. */
function streams(client: Redis, plain: Redis): Form {
  const range = (session: string, after: string, count: number) =>
    plain.xrange(`floor:${session}`, after === '' ? '-' : `(${after}`, '+', 'COUNT', count)
  return {
    append: (session, payload) => client.xadd(`floor:${session}`, '*', 'p', payload),
    async read(session, after) {
      const entries = await range(session, after, 1_000_000)
      return { payloads: entries.map(([, fields]) => fields[1]!), last: entries.at(-1)?.[0] ?? after }
    },
    first: async (session, after) => (await range(session, after, 1))[0]?.[1][1],
    bytes: () => memory(plain, 'floor:'),
  }
}

/** A global counter, a hash for each event and a sorted set for each session; commands and reads one by one. */
function hashes(client: Redis): Form {
  const ids = (session: string, after: string) =>
    client.zrangebyscore(`naive:stream:${session}`, after === '' ? '-inf' : `(${after}`, '+inf')
  const payload = async (id: string) => (await client.hgetall(`naive:event:${id}`)).payload!
  return {
    async append(session, text) {
      const id = await client.incr('naive:counter')
      await client.hset(`naive:event:${id}`, 'session', session, 'payload', text)
      await client.zadd(`naive:stream:${session}`, id, `${id}`)
      await client.expire(`naive:event:${id}`, 3600)
    },
    async read(session, after) {
      const found = await ids(session, after)
      const payloads: string[] = []
      for (const id of found) payloads.push(await payload(id))
      return { payloads, last: found.at(-1) ?? after }
    },
    async first(session, after) {
      const [id] = await ids(session, after)
      return id === undefined ? undefined : payload(id)
    },
    bytes: () => memory(client, 'naive:'),
  }
}

/** A list for each session, so many events of them to an UNLINK; their names are known. */
function lists(client: Redis): Sweep {
  let names: string[] = []
  let size = 0
  return {
    async fill(events, perSession) {
      names = Array.from({ length: events / perSession }, (_, i) => `sweep:floor:${i}`)
      size = perSession
      for (const name of names) await client.rpush(name, ...Array.from({ length: perSession }, message))
    },
    async run(step) {
      let total = 0
      const width = Math.max(1, Math.floor(step / size))
      for (let i = 0; i < names.length; i += width) {
        total += (await client.unlink(names.slice(i, i + width))) * size
      }
      return total
    },
  }
}

/** A hash for each event, found by a pattern and deleted by one script. */
function keys(client: Redis): Sweep {
  return {
    async fill(events, perSession) {
      for (let i = 0; i < events; ) {
        const pipeline = client.pipeline()
        for (const end = Math.min(events, i + 1000); i < end; i += 1) {
          pipeline.hset(
            `sweep:naive:${i}`,
            'session',
            `dead-${Math.floor(i / perSession)}`,
            'payload',
            message(),
          )
        }
        await pipeline.exec()
      }
    },
    run: async () =>
      (await client.eval(
        `local keys, gone = redis.call('KEYS', ARGV[1]), 0
        for i = 1, #keys, 5000 do gone = gone + redis.call('DEL', unpack(keys, i, math.min(i + 4999, #keys))) end
        return gone`,
        0,
        'sweep:naive:*',
      )) as number,
  }
}

/** All keys with a prefix, every element of them counted. */
async function memory(client: Redis, prefix: string): Promise<number> {
  let total = 0
  for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1000 })) {
    const sizes = await Promise.all(
      (keys as string[]).map((key) => client.call('MEMORY', 'USAGE', key, 'SAMPLES', '0') as Promise<number>),
    )
    for (const size of sizes) total += Number(size)
  }
  return total
}
