import { Redis } from 'ioredis5'
import { afterAll, inject } from 'vitest'
import { redisContract } from '../support/redis-contract.ts'

// A client of the user's, of the older driver, with options that would get in our way.
const url = inject('redisUrl')
const client = new Redis(url, { keyPrefix: 'theirs:', enableAutoPipelining: true })
afterAll(() => client.disconnect())

redisContract('redis, a client of ioredis 5', url, { client })
