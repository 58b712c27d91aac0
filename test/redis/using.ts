import { RedisEventStore } from '../../src/store/redis/redis-store.ts'

// A process that stores and hears something, and says how that went.
const store = new RedisEventStore({ url: process.argv[2]!, timeout: 3_000 })
try {
  const events = [{ streamId: 'a', kind: 'message', payload: 'm' }] as const
  await store.log.append({ sessionId: 's', events, ttl: 60_000 })
  const heard = new Promise<void>((resolve) => {
    void store.bus.subscribe('c', () => resolve()).then(() => store.bus.publish('c', 'text'))
  })
  await heard
  process.send!('stored and heard')
} catch (error) {
  process.send!(`${(error as { code?: string }).code} ${error}`)
}
await store.close()
process.disconnect()
