import { inject } from 'vitest'
import { redisContract } from '../support/redis-contract.ts'

redisContract('redis', inject('redisUrl'))
