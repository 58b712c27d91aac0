import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { nodeChannel } from '../../src/store/port.ts'
import { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { storeContract } from '../../src/testing.ts'
import { type PgBouncerService, startPgBouncer } from '../support/services/pgbouncer.ts'
import { until } from '../support/wait.ts'
import { newSchema, openStore, quiet } from './support.ts'

let bouncer: PgBouncerService
beforeAll(async () => {
  bouncer = await startPgBouncer(inject('postgresUrl'))
})
afterAll(() => bouncer.stop())

describe('with a listenUrl the whole contract holds', () => {
  let schema: string
  const options = () => ({ url: bouncer.url, listenUrl: inject('postgresUrl'), schema, logger: quiet })
  storeContract({
    test,
    async open() {
      schema = newSchema()
      return openStore(options())
    },
    second: () => new PostgresEventStore(options()),
  })
})

test('without a listenUrl all but wake-ups works, and health says what is missing', async () => {
  const store = await openStore({ url: bouncer.url, schema: newSchema() })
  const { ok, warnings } = await store.health()
  expect(ok).toBe(true)
  expect(warnings.some((warning) => warning.includes('listenUrl'))).toBe(true)
  const subscription = await store.bus.subscribe(nodeChannel('n'), () => {})
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, 60_000)
  // Its lock would belong to the pooler: the lease alone tells whether the node lives.
  expect(await store.nodes.get('n')).toEqual({ id: 'n', publicKey: 'k', profile: '{}' })
  expect(await store.bus.send('n', Buffer.alloc(10_000))).toBe(true)
  await subscription.close()
  await store.close()
})

test('a listenUrl to another database never makes the living look dead', async () => {
  const other = new URL(inject('postgresUrl'))
  other.pathname = '/template1'
  const schema = newSchema()
  const store = await openStore({ url: inject('postgresUrl'), listenUrl: other.toString(), schema })
  await store.bus.subscribe('c', () => {})
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, 60_000)
  expect(await store.nodes.get('n')).toBeDefined()
  await store.close()
})

test('no statement is named and no setting is left behind on the connections that all share', async () => {
  const store = await openStore({ url: bouncer.url, listenUrl: inject('postgresUrl'), schema: newSchema() })
  const event = { streamId: 'a', kind: 'message', payload: '{}' } as const
  await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      store.log.append({ sessionId: `s${i}`, events: [event], ttl: 60_000 }),
    ),
  )
  const direct = await openStore({ url: bouncer.url, schema: newSchema() })
  const pg = await import('pg')
  const client = new pg.default.Client({ connectionString: bouncer.url })
  await client.connect()
  const seen = await until('a look at each of the five connections', async () => {
    const { rows } = await client.query(
      `SELECT (SELECT count(*)::int FROM pg_prepared_statements) AS prepared, current_setting('statement_timeout') AS timeout`,
    )
    return rows[0]
  })
  expect(seen).toEqual({ prepared: 0, timeout: '0' })
  await client.end()
  await Promise.all([store.close(), direct.close()])
})

test('a pooler whose server is gone gives a sentence without the password', async () => {
  const url = new URL(bouncer.url)
  url.password = 'hunter2'
  url.pathname = '/no_such_database'
  const store = new PostgresEventStore({ url: url.toString(), logger: quiet, timeout: 1500 })
  const error = await store.ready().catch((error) => error)
  expect(isPersistError(error, 'STORE_UNAVAILABLE')).toBe(true)
  expect(error.message).not.toContain('hunter2')
  await store.close()
})
