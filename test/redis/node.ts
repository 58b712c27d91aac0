import { RedisEventStore } from '../../src/store/redis/redis-store.ts'

// A process that is a node and nothing else, until it is killed.
const [, , url, keyPrefix, id] = process.argv as string[] as [string, string, string, string, string]
const store = new RedisEventStore({ url, keyPrefix })
await store.bus.receive(id, () => {})
await store.nodes.register({ id, publicKey: 'key', profile: '{}' }, 60_000)
process.send!('ready')
