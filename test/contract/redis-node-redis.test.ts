import { createClient } from 'redis'
import { inject } from 'vitest'
import { redisContract } from '../support/redis-contract.ts'

// A client of the user's, of the other driver, with options that would get in our way; it is never connected.
redisContract('redis, a client of node-redis', inject('redisUrl'), (url) => ({
  client: createClient({ url, keyPrefix: 'theirs:', commandOptions: { timeout: 1 }, pingInterval: 5 }),
}))
