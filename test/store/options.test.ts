import { expect, test } from 'vitest'
import { MemoryEventStore, PostgresEventStore, RedisEventStore, SqliteEventStore } from '../../src/index.ts'

const postgres = { url: 'postgres://127.0.0.1:1/x' }
const redis = { url: 'redis://127.0.0.1:1' }

const STORES: Record<string, (options: object) => unknown> = {
  'memory ttl': (options) => new MemoryEventStore(options),
  'sqlite ttl': (options) => new SqliteEventStore({ path: ':memory:', ...options }),
  'sqlite timeout': (options) => new SqliteEventStore({ path: ':memory:', ...options }),
  'redis ttl': (options) => new RedisEventStore({ ...redis, ...options }),
  'redis timeout': (options) => new RedisEventStore({ ...redis, ...options }),
  'redis maxWaiting': (options) => new RedisEventStore({ ...redis, ...options }),
  'postgres ttl': (options) => new PostgresEventStore({ ...postgres, ...options }),
  'postgres timeout': (options) => new PostgresEventStore({ ...postgres, ...options }),
  'postgres maxConnections': (options) => new PostgresEventStore({ ...postgres, ...options }),
  'postgres maxWaiting': (options) => new PostgresEventStore({ ...postgres, ...options }),
}

test.each(Object.entries(STORES))('%s must be a positive number, in every store alike', (name, open) => {
  const option = name.split(' ')[1]!
  for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, '5', null]) {
    const message = `${option} must be a positive number, not ${value}.`
    expect(() => open({ [option]: value })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message }),
    )
  }
  expect(() => open({ [option]: undefined })).not.toThrow()
  expect(() => open({ [option]: 700 })).not.toThrow()
})
