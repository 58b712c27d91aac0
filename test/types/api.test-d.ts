/*
 * Nothing here runs: `npm run check` compiles it. What stands under `@ts-expect-error` must not compile, and a line that
 * does fails the check.
 */
import type { AuthInfo as AuthInfoV1 } from '@modelcontextprotocol/sdk/server/auth/types.js'
import type { AuthInfo as AuthInfoV2 } from '@modelcontextprotocol/server'
import { Redis } from 'ioredis'
import { Redis as Redis5 } from 'ioredis5'
import pg from 'pg'
import { createClient, createCluster } from 'redis'
import { expectTypeOf } from 'vitest'
import {
  type AuthInfo,
  type Backend,
  type MemoryEventStore,
  type MigrationTarget,
  openStore,
  type PersistentHandler,
  type PersistOptions,
  PostgresEventStore,
  RedisEventStore,
  SqliteEventStore,
  type Store,
  withPersistence,
} from '../../src/index.ts'

const url = 'redis://localhost'
const client = new Redis({ lazyConnect: true })

// A store is told where its server is, once.
new RedisEventStore({ url, keyPrefix: 'x:', timeout: 1000 })
new RedisEventStore({ client })
new RedisEventStore({ client: new Redis5({ lazyConnect: true }) })
new RedisEventStore({ client: createClient({ url }) })
// @ts-expect-error a cluster of the package `redis`
new RedisEventStore({ client: createCluster({ rootNodes: [{ url }] }) })
// @ts-expect-error neither
new RedisEventStore({})
// @ts-expect-error both
new RedisEventStore({ url, client })
// @ts-expect-error perhaps neither
new RedisEventStore({ url: process.env.REDIS_URL })
// @ts-expect-error another kind of client
new RedisEventStore({ client: new pg.Pool() })

new PostgresEventStore({ url: 'postgres://localhost', schema: 'x' })
new PostgresEventStore({ pool: new pg.Pool() })
// @ts-expect-error neither
new PostgresEventStore({})
// @ts-expect-error both
new PostgresEventStore({ url, pool: new pg.Pool() })
// @ts-expect-error neither
new PostgresEventStore({ schema: 'x' })

new SqliteEventStore('mcp.db')
// @ts-expect-error no path
new SqliteEventStore({})

// What is public of a store is the port.
type Parts = 'log' | 'sessions' | 'nodes' | 'bus' | 'tasks'
expectTypeOf<Pick<RedisEventStore, Parts>>().toEqualTypeOf<Pick<Backend, Parts>>()
expectTypeOf<Pick<PostgresEventStore, Parts>>().toEqualTypeOf<Pick<Backend, Parts>>()
expectTypeOf<Pick<SqliteEventStore, Parts>>().toEqualTypeOf<Pick<Backend, Parts>>()
expectTypeOf<Pick<MemoryEventStore, Parts>>().toEqualTypeOf<Pick<Backend, Parts>>()
expectTypeOf<PostgresEventStore['migrations']>().toEqualTypeOf<MigrationTarget>()
expectTypeOf<SqliteEventStore['migrations']>().toEqualTypeOf<MigrationTarget>()
expectTypeOf<RedisEventStore>().toExtend<Store>()
expectTypeOf(openStore).returns.toEqualTypeOf<Store>()

// `await using`.
expectTypeOf<Store>().toExtend<AsyncDisposable>()
expectTypeOf<PersistentHandler>().toExtend<AsyncDisposable>()

// A principal is a name, or nobody; nothing returned is a mistake.
const principal = (option: NonNullable<PersistOptions['principal']>) => option
principal(({ authInfo }) => authInfo?.clientId ?? null)
principal(async ({ headers }) => headers.get('x-user'))
// @ts-expect-error undefined is not null
principal(({ headers }) => headers['x-user'])
// @ts-expect-error a forgotten return
principal(({ headers }) => {
  headers.get('x-user')
})

// The SDKs' own type is ours, and the other way around.
expectTypeOf<AuthInfoV1>().toExtend<AuthInfo>()
expectTypeOf<AuthInfoV2>().toExtend<AuthInfo>()
expectTypeOf<AuthInfo>().toExtend<AuthInfoV1>()
expectTypeOf<AuthInfo>().toExtend<AuthInfoV2>()

// @ts-expect-error a misspelt option
withPersistence(() => undefined as never, 'memory:', { tll: 60 })
