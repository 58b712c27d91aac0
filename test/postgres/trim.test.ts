import { expect, inject, test } from 'vitest'
import { admin, newSchema, openStore, quiet } from './support.ts'

const events = (count: number) =>
  Array.from({ length: count }, () => ({ streamId: 'a', kind: 'message', payload: '{}' }) as const)

// Else each append counts what is there: with 9,500 events in the log, four times the latency of one that does not.
test('where the oldest events have expired and not been trimmed, the floor follows at the next look', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const store = await openStore({ url, schema, logger: quiet })
  const append = (count: number, limit: number) =>
    store.log.append({ sessionId: 's', events: events(count), ttl: 60_000, limit })
  const floor = async () => Number((await client.query(`SELECT floor FROM ${schema}.mcp_logs`)).rows[0].floor)
  try {
    await append(100, 1000)
    await client.query(`DELETE FROM ${schema}.mcp_events WHERE position <= 60`)
    await append(1, 1000)
    expect(await floor()).toBe(0)
    await append(1, 90)
    expect(await floor()).toBe(60)
    await append(1, 20)
    expect(await floor()).toBe(83)
    await client.query(`DELETE FROM ${schema}.mcp_events`)
    await append(50, 20)
    expect(await floor()).toBe(83)
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 100 })
    expect([page.floor, page.events.length, page.last]).toEqual([103, 50, 153])
  } finally {
    await store.close()
    await client.query(`DROP SCHEMA ${schema} CASCADE`)
  }
})
