import { Redis } from 'ioredis5'
import { inject } from 'vitest'
import { redisContract } from '../support/redis-contract.ts'

// A client of the user's, of the older driver, with options that would get in our way; it is never connected.
redisContract('redis, a client of ioredis 5', inject('redisUrl'), (url) => ({
  client: new Redis(url, { keyPrefix: 'theirs:', enableAutoPipelining: true, lazyConnect: true }),
}))
