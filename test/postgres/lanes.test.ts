import pg from 'pg'
import { expect, inject, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { until, within } from '../support/wait.ts'
import { admin, newSchema, openStore, quiet } from './support.ts'

const TTL = 60_000
const event = { streamId: 'a', kind: 'message', payload: '{}' } as const
const state = { initialize: '{}', protocolVersion: '2025-11-25' }

test('while reads have all the connections that they may, sessions are kept alive and events are stored', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const store = await openStore({ url, schema, maxConnections: 4, timeout: 4000 })
  await store.bus.subscribe('node:n', () => {})
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, TTL)
  const generation = await store.sessions.create({ id: 's', principal: null, state, owner: 'n', ttl: TTL })
  await store.tasks.create({ id: 't', sessionId: null, value: '{}', ttl: TTL })
  // Whatever reads the tasks waits for this lock, as it would wait for a disk that is too slow.
  await client.query(`BEGIN; LOCK TABLE ${schema}.mcp_tasks IN ACCESS EXCLUSIVE MODE`)
  const reads = Array.from({ length: 200 }, () => store.tasks.get('t'))
  await until('reads that wait', async () => {
    const { rows } = await client.query(
      `SELECT count(*)::int AS n FROM pg_locks WHERE relation = '${schema}.mcp_tasks'::regclass AND NOT granted`,
    )
    return rows[0].n > 0
  })
  const urgent = async () => {
    expect(await store.nodes.renew('n', TTL)).toBe(true)
    await store.log.append({ sessionId: 's', events: [event], generation, ttl: TTL })
    expect(await store.bus.send('n', Buffer.from('small'))).toBe(true)
    expect(await store.bus.send('n', Buffer.alloc(20_000))).toBe(true)
    await store.bus.publish('c', 'text')
    expect(await store.sessions.touch([{ id: 's', ttl: TTL, generation }])).toEqual([])
    expect(await store.nodes.get('n')).toBeDefined()
    await store.ping()
  }
  for (let round = 0; round < 3; round++) await within('what cannot wait', urgent(), 1000)
  await client.query('COMMIT')
  const tasks = await Promise.all(reads)
  expect(tasks.every((task) => task?.id === 't')).toBe(true)
  await store.close()
})

test('a pool of one connection still serves everybody', async () => {
  const store = await openStore({ url: inject('postgresUrl'), schema: newSchema(), maxConnections: 1 })
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, TTL)
  const reads = Array.from({ length: 50 }, () => store.log.read({ sessionId: 's', after: 0, limit: 1 }))
  const writes = Array.from({ length: 50 }, () =>
    store.log.append({ sessionId: 's', events: [event], ttl: TTL }),
  )
  await Promise.all([...reads, ...writes, store.nodes.renew('n', TTL)])
  await store.close()
})

test('who waits in vain for a turn leaves the line, and takes nobody’s place', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const store = await openStore({ url, schema, maxConnections: 3, timeout: 300 })
  await client.query(`BEGIN; LOCK TABLE ${schema}.mcp_tasks IN ACCESS EXCLUSIVE MODE`)
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => store.tasks.get('t')))
  for (const result of results) {
    expect(result.status === 'rejected' && isPersistError(result.reason, 'STORE_UNAVAILABLE')).toBe(true)
  }
  await client.query('COMMIT')
  const again = Array.from({ length: 20 }, () => store.tasks.get('t'))
  expect(await within('reads after it', Promise.all(again), 5000)).toHaveLength(20)
  await store.close()
})

test('what waits while the server is away is bounded, for everything that is grouped too', async () => {
  const url = 'postgres://nobody@127.0.0.1:9/x'
  const store = new PostgresEventStore({ url, maxWaiting: 5, timeout: 500, logger: quiet })
  const calls = {
    append: () => store.log.append({ sessionId: 's', events: [event], ttl: TTL }),
    send: () => store.bus.send('n', Buffer.from('x')),
    publish: () => store.bus.publish('c', 'x'),
  }
  for (const [name, call] of Object.entries(calls)) {
    const results = await Promise.allSettled<unknown>(Array.from({ length: 20 }, () => call()))
    const codes = results.map((result) => (result.status === 'rejected' ? result.reason.code : 'fulfilled'))
    expect(codes.filter((code) => code === 'OVERLOADED').length, name).toBe(15)
    expect(codes.filter((code) => code === 'STORE_UNAVAILABLE').length, name).toBe(5)
  }
  await store.close()
})

test('two schemas share the connections of one pool', async () => {
  const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 1 })
  let made = 0
  pool.on('connect', () => {
    made += 1
  })
  const stores = await Promise.all([newSchema(), newSchema()].map((schema) => openStore({ pool, schema })))
  for (let round = 0; round < 3; round++) {
    for (const [i, store] of stores.entries()) {
      await store.log.append({
        sessionId: 's',
        events: [{ ...event, payload: `${i}` }],
        ttl: TTL,
        limit: 100,
      })
      const page = await store.log.read({ sessionId: 's', after: 0, limit: 10 })
      expect(page.events.map(({ payload }) => payload)).toEqual(Array(round + 1).fill(`${i}`))
      expect(await store.sessions.get('s')).toBeUndefined()
    }
  }
  const { rows } = await pool.query('SELECT count(*)::int AS n FROM pg_prepared_statements')
  expect(rows[0].n, 'their statements are prepared').toBeGreaterThan(4)
  expect(made, 'on one connection').toBe(1)
  await Promise.all(stores.map((store) => store.close()))
  await pool.end()
})
