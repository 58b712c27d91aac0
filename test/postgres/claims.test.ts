import { expect, inject, test } from 'vitest'
import { until } from '../support/wait.ts'
import { admin, newSchema, openStore } from './support.ts'

const TTL = 60_000
const state = { initialize: '{}', protocolVersion: '2025-11-25' }

// The claim has looked before the append was over: what it saw does not have the call, which nobody would ever answer.
test('a call that was opened in a log that counts in its row, while its session was claimed, is not overlooked', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const [old, young] = [await openStore({ url, schema }), await openStore({ url, schema })]
  const waiting = async (count: number) => {
    const { rows } = await client.query(
      `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'`,
      [schema],
    )
    return rows[0].n === count
  }
  for (let round = 0; round < 3; round++) {
    const id = `s${round}`
    const generation = await old.sessions.create({ id, principal: null, state, owner: 'gone', ttl: TTL })
    await old.sessions.release(id, generation)
    await client.query('BEGIN')
    await client.query(`SELECT FROM ${schema}.mcp_logs WHERE session_id = $1 FOR UPDATE`, [id])
    const event = { streamId: 'call', kind: 'open', payload: 'request' } as const
    const appending = old.log.append({ sessionId: id, events: [event], generation, ttl: TTL })
    await until('the append to wait', () => waiting(1))
    const claiming = young.sessions.claim(id, { owner: 'young', generation })
    await until('the claim to wait behind it', () => waiting(2))
    await client.query('COMMIT')
    await appending
    expect((await claiming)?.open).toEqual([{ streamId: 'call', payload: 'request', runs: 1 }])
  }
  await Promise.all([old.close(), young.close()])
})

test('a call that the log knows to have ended is not open, though its end was stored by somebody who did not note it', async () => {
  const url = inject('postgresUrl')
  const client = await admin(url)
  const schema = newSchema()
  const store = await openStore({ url, schema })
  const generation = await store.sessions.create({ id: 's', principal: null, state, owner: 'gone', ttl: TTL })
  const events = ['a', 'b'].map((streamId) => ({ streamId, kind: 'open', payload: streamId }) as const)
  await store.log.append({ sessionId: 's', events, generation, ttl: TTL })
  await client.query(
    `INSERT INTO ${schema}.mcp_events (log_id, position, stream_id, kind, payload, expires_at)
     SELECT log_id, 3, 'a', 2, '{}', expires_at FROM ${schema}.mcp_logs`,
  )
  const claimed = await store.sessions.claim('s', { owner: 'n', generation })
  expect(claimed?.open.map(({ streamId }) => streamId)).toEqual(['b'])
  await store.close()
})
