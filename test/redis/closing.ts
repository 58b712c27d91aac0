import { RedisEventStore } from '../../src/store/redis/redis-store.ts'

// A process that uses a store, closes it, and has nothing else to do.
const store = new RedisEventStore({ url: process.argv[2]!, keyPrefix: 'closing:' })
await store.bus.receive('node', () => {})
await store.nodes.register({ id: 'node', publicKey: 'k', profile: '{}' }, 60_000)
await store.bus.send('node', Buffer.alloc(50_000))
await store.close()
process.disconnect()
