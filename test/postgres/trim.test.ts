import { expect, inject, test } from 'vitest'
import { admin, newSchema, openStore } from './support.ts'

const events = (count: number) =>
  Array.from({ length: count }, () => ({ streamId: 'a', kind: 'message', payload: '{}' }) as const)
const state = { initialize: '{}', protocolVersion: '2025-11-25' }

test('what has expired and was not trimmed is found at the next look, and so is what came after it', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const store = await openStore({ url, schema })
  const append = (count: number, limit: number) =>
    store.log.append({ sessionId: 's', events: events(count), ttl: 60_000, limit })
  const log = async () => {
    const { rows } = await client.query(`SELECT floor, kept FROM ${schema}.mcp_logs`)
    return [Number(rows[0].floor), Number(rows[0].kept)]
  }
  await append(100, 1000)
  await client.query(`DELETE FROM ${schema}.mcp_events WHERE position <= 60`)
  await append(1, 1000)
  expect(await log(), 'nobody has looked').toEqual([0, 101])
  await append(1, 90)
  expect(await log(), 'there was nothing to trim').toEqual([0, 42])
  await append(1, 20)
  expect(await log()).toEqual([83, 20])
  await append(2, 20)
  expect(await log(), 'a tenth late').toEqual([83, 22])
  await client.query(`DELETE FROM ${schema}.mcp_events`)
  await append(50, 20)
  expect(await log()).toEqual([135, 20])
  const page = await store.log.read({ sessionId: 's', after: 0, limit: 100 })
  expect([page.floor, page.events.length, page.last]).toEqual([135, 20, 155])
  await store.close()
})

// A claim goes on from the time in microseconds: from then on positions say nothing about how many events there are.
test('appends to a log whose positions have holes do not look through it each time', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const store = await openStore({ url, schema })
  let generation = await store.sessions.create({ id: 's', principal: null, state, owner: 'n', ttl: 60_000 })
  const append = (count: number) =>
    store.log.append({ sessionId: 's', events: events(count), generation, ttl: 60_000, limit: 10_000 })
  await append(10)
  const claimed = await store.sessions.claim('s', { owner: 'n', generation })
  generation = claimed!.generation
  for (let i = 0; i < 4; i++) await append(1000)
  for (let i = 0; i < 300; i++) await append(1)
  // What a connection has counted is there for others when it has ended.
  await store.close()
  const { rows } = await client.query(
    `SELECT sum(idx_tup_read)::int AS n FROM pg_stat_user_indexes WHERE schemaname = $1 AND relname = 'mcp_events'`,
    [schema],
  )
  // At the most one look, for the holes that nobody had counted before.
  expect(rows[0].n).toBeLessThan(20_000)
})
