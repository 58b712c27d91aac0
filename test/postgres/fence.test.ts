import pg from 'pg'
import { expect, inject, test } from 'vitest'
import type { Append } from '../../src/store/port.ts'
import { appendOwned } from '../../src/store/postgres/postgres-owned-append.ts'
import type { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { until } from '../support/wait.ts'
import { admin, newSchema, openStore } from './support.ts'

const TTL = 60_000
const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const url = () => inject('postgresUrl')
const message = (payload: string) => ({ streamId: 'a', kind: 'message', payload }) as const

async function begin(store: PostgresEventStore, id: string): Promise<number> {
  return store.sessions.create({ id, principal: null, state, owner: 'gone', ttl: TTL })
}

async function payloads(store: PostgresEventStore, sessionId: string): Promise<string[]> {
  const { events } = await store.log.read({ sessionId, after: 0, limit: 100 })
  return events.map(({ payload }) => payload)
}

/** Statements that wait for a lock, of those that work on the schema. */
async function waiting(client: pg.Client, schema: string, count: number): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'`,
    [schema],
  )
  return rows[0].n === count
}

/** In a transaction a look at what others do is kept, so this is never asked for on the connection that is in one. */
const looking = () => admin(url())

/** Makes the next append of a session from memory wait at its position, until this is undone. */
async function obstruct(
  client: pg.Client,
  schema: string,
  id: string,
  position: number,
): Promise<() => Promise<unknown>> {
  await client.query('BEGIN')
  await client.query(
    `INSERT INTO ${schema}.mcp_events (log_id, position, stream_id, kind, payload, expires_at)
     SELECT log_id, $2, 'a', 1, 'in the way', now() FROM ${schema}.mcp_logs WHERE session_id = $1`,
    [id, position],
  )
  return () => client.query('ROLLBACK')
}

/**
 * An append that has begun, and seen the log as it was, before somebody else claims the session, and that comes to its lock
 * after that; what it has stored then.
 */
async function appendLate(locked: boolean): Promise<{ count: number; seen: string[] }> {
  const client = await admin(url())
  const late = await admin(url())
  const schema = newSchema()
  const [old, young] = [await openStore({ url: url(), schema }), await openStore({ url: url(), schema })]
  const generation = await begin(old, 's')
  const { positions } = await old.log.append({
    sessionId: 's',
    events: [message('first')],
    generation,
    ttl: TTL,
  })
  const { rows } = await client.query(`SELECT log_id, epoch, appender FROM ${schema}.mcp_logs`)
  const { log_id: logId, epoch, appender } = rows[0]
  const append: Append = { sessionId: 's', events: [message('late')], generation, ttl: TTL }
  const { text, values } = appendOwned(
    {
      logs: `${schema}.mcp_logs`,
      events: `${schema}.mcp_events`,
      appenders: `${schema}.mcp_appenders`,
      openStreams: undefined,
    },
    appender,
    [
      {
        sessionId: 's',
        generation,
        appends: [append],
        ownership: { appender, logId, epoch, generation, last: positions[0]!, kept: 1 },
      },
    ],
  )
  const gated = text
    .replace(
      '.mcp_appenders WHERE',
      '.mcp_appenders AS mine, (SELECT pg_advisory_xact_lock(4711)) AS gate WHERE',
    )
    .replace('FOR KEY SHARE', locked ? 'FOR KEY SHARE OF mine' : '')
  await client.query('SELECT pg_advisory_lock(4711)')
  const appending = late.query<{ count: number }>(gated, values as unknown[])
  await until('the append to have begun', () => waiting(client, schema, 1))
  const claimed = await young.sessions.claim('s', { owner: 'young', generation })
  await young.log.append({
    sessionId: 's',
    events: [message('next')],
    generation: claimed!.generation,
    ttl: TTL,
  })
  await client.query('SELECT pg_advisory_unlock(4711)')
  const { count } = (await appending).rows[0]!
  const seen = await payloads(young, 's')
  await Promise.all([old.close(), young.close()])
  return { count, seen }
}

test('an append that began before its session was claimed, and comes to its lock after that, stores nothing', async () => {
  expect(await appendLate(true)).toEqual({ count: 0, seen: ['first', 'next'] })
})

test('the control: without the lock it is stored behind the claim', async () => {
  expect(await appendLate(false)).toEqual({ count: 1, seen: ['first', 'late', 'next'] })
})

test('a claim waits for appends from memory that are under way, and knows what they have opened', async () => {
  const [client, look] = [await admin(url()), await looking()]
  const schema = newSchema()
  const [old, young] = [await openStore({ url: url(), schema }), await openStore({ url: url(), schema })]
  const generation = await begin(old, 's')
  const letIt = await obstruct(client, schema, 's', 1)
  const opens = { streamId: 'a', kind: 'open', payload: 'request' } as const
  const appending = old.log.append({ sessionId: 's', events: [opens], generation, ttl: TTL })
  await until('the append to wait', () => waiting(look, schema, 1))
  const claiming = young.sessions.claim('s', { owner: 'young', generation })
  await until('the claim to wait for it', () => waiting(look, schema, 2))
  await letIt()
  expect((await appending).positions).toEqual([1])
  const claimed = await claiming
  expect(claimed?.open).toEqual([{ streamId: 'a', payload: 'request', runs: 1 }])
  const late = old.log.append({ sessionId: 's', events: [message('late')], generation, ttl: TTL })
  await expect(late).rejects.toMatchObject({ code: 'FENCED' })
  const { generation: next } = claimed!
  const { positions } = await young.log.append({
    sessionId: 's',
    events: [message('next')],
    generation: next,
    ttl: TTL,
  })
  expect(positions[0]).toBeGreaterThan(claimed!.last)
  await Promise.all([old.close(), young.close()])
})

// With a pool of the user's the server does not end what takes too long.
test('an append that was given up, and stored all the same, is neither overwritten nor overtaken', async () => {
  const [client, look] = [await admin(url()), await looking()]
  const schema = newSchema()
  const pool = new pg.Pool({ connectionString: url(), max: 5 })
  const store = await openStore({ pool, schema, timeout: 2500 })
  const generation = await begin(store, 's')
  const append = (payload: string) =>
    store.log.append({ sessionId: 's', events: [message(payload)], generation, ttl: TTL })
  const letIt = await obstruct(client, schema, 's', 1)
  await expect(append('given up')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  const next = append('next')
  await until('the next to wait for it', () => waiting(look, schema, 2))
  await letIt()
  expect((await next).positions).toEqual([2])
  expect((await append('last')).positions).toEqual([3])
  expect(await payloads(store, 's')).toEqual(['given up', 'next', 'last'])
  await store.close()
  await pool.end()
})

test('the sessions of one that is gone are claimed all at once, and it is fenced once', async () => {
  const client = await admin(url())
  const schema = newSchema()
  const [old, young] = [await openStore({ url: url(), schema }), await openStore({ url: url(), schema })]
  const ids = Array.from({ length: 300 }, (_, i) => `s${i}`)
  const generations = await Promise.all(ids.map((id) => begin(old, id)))
  await Promise.all(
    ids.map((sessionId, i) =>
      old.log.append({ sessionId, events: [message(sessionId)], generation: generations[i]!, ttl: TTL }),
    ),
  )
  const appenders = async () =>
    (await client.query(`SELECT count(*)::int AS n FROM ${schema}.mcp_appenders`)).rows[0].n as number
  expect(await appenders()).toBe(1)
  const claims = await Promise.all(
    ids.map((id, i) => young.sessions.claim(id, { owner: 'young', generation: generations[i]! })),
  )
  expect(claims.filter((claim) => claim === undefined)).toEqual([])
  expect(await appenders(), 'the new one').toBe(1)
  const results = await Promise.allSettled(
    ids.map((sessionId, i) =>
      old.log.append({ sessionId, events: [message('late')], generation: generations[i]!, ttl: TTL }),
    ),
  )
  expect(new Set(results.map((result) => result.status === 'rejected' && result.reason.code))).toEqual(
    new Set(['FENCED']),
  )
  expect(await payloads(young, 's299')).toEqual(['s299'])
  await Promise.all([old.close(), young.close()])
})

test('a session that was released in order is claimed without fencing who had it', async () => {
  const client = await admin(url())
  const schema = newSchema()
  const [old, young] = [await openStore({ url: url(), schema }), await openStore({ url: url(), schema })]
  const generation = await begin(old, 's')
  const other = await begin(old, 'other')
  const appends = ['a', 'b', 'c'].map((payload) =>
    old.log.append({ sessionId: 's', events: [message(payload)], generation, ttl: TTL }),
  )
  // Said while appends are under way: it waits for them.
  expect(await old.sessions.release('s', generation)).toBe(true)
  await Promise.all(appends)
  const { rows } = await client.query(`SELECT appender_id AS id FROM ${schema}.mcp_appenders`)
  const claimed = await young.sessions.claim('s', { owner: 'young', generation })
  expect(claimed?.last).toBeGreaterThan(3)
  await young.log.append({
    sessionId: 's',
    events: [message('d')],
    generation: claimed!.generation,
    ttl: TTL,
  })
  expect(await payloads(young, 's')).toEqual(['a', 'b', 'c', 'd'])
  await old.log.append({ sessionId: 'other', events: [message('e')], generation: other, ttl: TTL })
  const kept = await client.query(`SELECT FROM ${schema}.mcp_appenders WHERE appender_id = $1`, [rows[0].id])
  expect(kept.rowCount).toBe(1)
  await Promise.all([old.close(), young.close()])
})

test('what an append leaves behind in a session that was ended meanwhile goes with its tombstone', async () => {
  const [client, look] = [await admin(url()), await looking()]
  const schema = newSchema()
  const [old, other] = [await openStore({ url: url(), schema }), await openStore({ url: url(), schema })]
  const generation = await begin(old, 's')
  const letIt = await obstruct(client, schema, 's', 1)
  const opens = { streamId: 'a', kind: 'open', payload: 'request' } as const
  const appending = old.log.append({ sessionId: 's', events: [opens], generation, ttl: TTL })
  await until('the append to wait', () => waiting(look, schema, 1))
  expect(await other.sessions.terminate('s')).toBe(true)
  await letIt()
  await appending
  const left = async () => {
    const count = (table: string) => `(SELECT count(*)::int FROM ${schema}.${table})`
    const { rows } = await client.query(`SELECT ${count('mcp_events')} + ${count('mcp_open_streams')} AS n`)
    return rows[0].n as number
  }
  expect(await left()).toBe(2)
  await client.query(`UPDATE ${schema}.mcp_sessions SET tombstone_until = now()`)
  await other.sweep()
  expect(await left()).toBe(0)
  const late = old.log.append({ sessionId: 's', events: [message('late')], generation, ttl: TTL })
  await expect(late).rejects.toMatchObject({ code: 'SESSION_GONE' })
  await Promise.all([old.close(), other.close()])
})

test('after a crash of the server, which forgets who appends, everything goes on', async () => {
  const client = await admin(url())
  const schema = newSchema()
  const store = await openStore({ url: url(), schema })
  const generation = await begin(store, 's')
  const append = (payload: string) =>
    store.log.append({ sessionId: 's', events: [message(payload)], generation, ttl: TTL })
  await append('a')
  await client.query(`TRUNCATE ${schema}.mcp_appenders`)
  expect((await Promise.all([append('b'), append('c')])).map(({ positions }) => positions[0])).toEqual([2, 3])
  expect(await payloads(store, 's')).toEqual(['a', 'b', 'c'])
  await store.close()
})

test('sweeping all events does not make the log forget where it was', async () => {
  const client = await admin(url())
  const schema = newSchema()
  const [store, other] = [await openStore({ url: url(), schema }), await openStore({ url: url(), schema })]
  const generation = await begin(store, 's')
  const append = () => store.log.append({ sessionId: 's', events: [message('x')], generation, ttl: TTL })
  for (let i = 0; i < 3; i++) await append()
  await client.query(`UPDATE ${schema}.mcp_events SET expires_at = now()`)
  await client.query(`UPDATE ${schema}.mcp_logs SET sweep_at = now()`)
  expect((await other.sweep()).events).toBe(3)
  const { last, floor, events } = await other.log.read({ sessionId: 's', after: 0, limit: 10 })
  expect([last, floor, events]).toEqual([3, 3, []])
  expect((await append()).positions).toEqual([4])
  await Promise.all([store.close(), other.close()])
})
