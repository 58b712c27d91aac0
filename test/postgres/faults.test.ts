import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import type { Appended, StoredEvent } from '../../src/store/port.ts'
import { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { type PostgresService, startPostgres } from '../support/services/postgres.ts'
import { until, within } from '../support/wait.ts'
import { admin, newSchema, openStore, quiet } from './support.ts'

let service: PostgresService
beforeAll(async () => {
  // What is counted after a kill must have been on the disk.
  service = await startPostgres({ own: true, fsync: true })
})
afterAll(() => service.stop())

const TTL = 3_600_000
const BACKENDS = `FROM pg_stat_activity WHERE application_name LIKE 'mcp-persist%'`

/** Eight writers that go on until told to stop, whatever happens; what they were told was stored. */
function load(store: PostgresEventStore) {
  const acknowledged = new Map<string, number>()
  const errors: unknown[] = []
  let running = true
  const write = async (writer: number) => {
    for (let i = 0; running; i++) {
      const payload = `${writer}:${i}`
      const event = { streamId: 'a', kind: 'message', payload } as const
      const stored: Appended | undefined = await store.log
        .append({ sessionId: `s${writer % 3}`, events: [event], ttl: TTL })
        .catch((error) => {
          errors.push(error)
          return undefined
        })
      if (stored) acknowledged.set(payload, stored.positions[0]!)
    }
  }
  const writers = Array.from({ length: 8 }, (_, i) => write(i))
  return {
    acknowledged,
    errors,
    async stop() {
      running = false
      await within('the end of all appends', Promise.all(writers), 30_000)
    },
  }
}

async function everything(store: PostgresEventStore): Promise<Map<string, StoredEvent>[]> {
  const logs: Map<string, StoredEvent>[] = []
  for (const sessionId of ['s0', 's1', 's2']) {
    const log = new Map<string, StoredEvent>()
    let last = 0
    for (;;) {
      const { events, more } = await store.log.read({ sessionId, after: last, limit: 1000 })
      for (const event of events) {
        expect(event.position).toBe(last + 1)
        expect(log.has(event.payload), `${event.payload} is stored once`).toBe(false)
        log.set(event.payload, event)
        last = event.position
      }
      if (!more) break
    }
    logs.push(log)
  }
  return logs
}

async function nothingIsLost(store: PostgresEventStore, { acknowledged, errors }: ReturnType<typeof load>) {
  expect(errors.filter((error) => !isPersistError(error, 'STORE_UNAVAILABLE'))).toEqual([])
  const logs = await everything(store)
  for (const [payload, position] of acknowledged) {
    const found = logs[Number(payload.split(':')[0]) % 3]!.get(payload)
    expect(found?.position, `${payload} is where it was said to be`).toBe(position)
  }
}

test('killed and restarted three times under load: nothing acknowledged is lost, no position comes twice', async () => {
  const store = await openStore({ url: service.url, schema: newSchema(), timeout: 3000 })
  const running = load(store)
  for (let round = 0; round < 3; round++) {
    const before = running.acknowledged.size
    await until('some appends', () => running.acknowledged.size > before + 200)
    await service.kill()
    await service.restart()
    const after = running.acknowledged.size
    await until('appends after the restart', () => running.acknowledged.size > after + 50)
  }
  await running.stop()
  await nothingIsLost(store, running)
  await store.close()
}, 120_000)

test('every connection terminated again and again: the store goes on by itself', async () => {
  const store = await openStore({ url: service.url, schema: newSchema() })
  const client = await admin(service.url)
  await store.bus.subscribe('c', () => {})
  const running = load(store)
  for (let round = 0; round < 10; round++) {
    const before = running.acknowledged.size
    await until('some appends', () => running.acknowledged.size > before + 50)
    await client.query(`SELECT pg_terminate_backend(pid) ${BACKENDS}`)
    // What only reads is run again: nobody notices.
    await store.log.read({ sessionId: 's0', after: 0, limit: 10 })
  }
  await running.stop()
  await nothingIsLost(store, running)
  await store.close()
}, 60_000)

test('a server that is away for a moment costs time, not errors; one that stays away, a sentence in time', async () => {
  const url = new URL(service.url)
  url.password = 'hunter2'
  const store = await openStore({ url: url.toString(), schema: newSchema(), timeout: 10_000 })
  const impatient = new PostgresEventStore({ url: url.toString(), logger: quiet, timeout: 400 })
  const event = { streamId: 'a', kind: 'message', payload: '{}' } as const
  await store.log.append({ sessionId: 's', events: [event], ttl: TTL })
  const client = await admin(service.url)
  await client.query(`SELECT pg_terminate_backend(pid) ${BACKENDS}`)
  await service.kill()
  const waiting = store.log.append({ sessionId: 's', events: [event], ttl: TTL }).catch((error) => error)
  const error = await impatient.ready().catch((error) => error)
  expect(isPersistError(error, 'STORE_UNAVAILABLE')).toBe(true)
  expect(error.message).toContain('postgres:***@')
  expect(JSON.stringify([error.message, (await impatient.health()).error])).not.toContain('hunter2')
  await service.restart()
  const settled = await waiting
  // Only if it was sent before the server died is its fate unknown.
  expect('positions' in settled || isPersistError(settled, 'STORE_UNAVAILABLE')).toBe(true)
  expect(
    (await store.log.append({ sessionId: 's', events: [event], ttl: TTL })).positions[0],
  ).toBeGreaterThan(1)
  await Promise.all([store.close(), impatient.close()])
}, 60_000)

test('the queue is bounded while the server does not answer', async () => {
  const store = new PostgresEventStore({
    url: 'postgres://nobody@127.0.0.1:9/x',
    maxWaiting: 5,
    timeout: 500,
    logger: quiet,
  })
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => store.ping()))
  const codes = results.map((result) => (result.status === 'rejected' ? result.reason.code : 'fulfilled'))
  expect(codes.filter((code) => code === 'OVERLOADED')).toHaveLength(15)
  expect(codes.filter((code) => code === 'STORE_UNAVAILABLE')).toHaveLength(5)
  await store.close()
})

test('after its connection was lost, every subscription is told to look, and hears again', async () => {
  const store = await openStore({ url: service.url, schema: newSchema() })
  const client = await admin(service.url)
  const heard: (string | undefined)[] = []
  for (const channel of ['a', 'b', 'c'])
    await store.bus.subscribe(channel, (text) => heard.push(text && `${channel} ${text}`))
  for (let round = 0; round < 3; round++) {
    heard.length = 0
    const { rows } = await client.query(`SELECT pid ${BACKENDS} AND application_name LIKE '%wake-ups%'`)
    expect(rows, 'one connection listens for all').toHaveLength(1)
    await client.query('SELECT pg_terminate_backend($1)', [rows[0].pid])
    await until('three wake-ups without a text', () => heard.length === 3)
    expect(heard).toEqual([undefined, undefined, undefined])
    await store.bus.publish('b', 'again')
    await until('the text', () => heard.includes('b again'))
  }
  await store.bus.publish('a', 'x'.repeat(9000))
  await until('a wake-up instead of a text too long', () => heard.at(-1) === undefined)
  await store.close()
})

test('a node whose connection was cut and came back is not robbed; one that is gone is, at once', async () => {
  const schema = newSchema()
  const [here, there] = [
    await openStore({ url: service.url, schema }),
    await openStore({ url: service.url, schema }),
  ]
  const client = await admin(service.url)
  const state = { initialize: '{}', protocolVersion: '2025-11-25' }
  for (const [store, id] of [
    [here, 'here'],
    [there, 'there'],
  ] as const) {
    await store.bus.subscribe(`node:${id}`, () => {})
    await store.nodes.register({ id, publicKey: 'k', profile: '{}' }, 60_000)
  }
  const generation = await here.sessions.create({ id: 's', principal: null, state, owner: 'there', ttl: TTL })
  for (let round = 0; round < 5; round++) {
    await client.query(`SELECT pg_terminate_backend(pid) ${BACKENDS} AND application_name LIKE '%wake-ups%'`)
    expect(await here.sessions.claim('s', { owner: 'here', generation })).toBeUndefined()
    await until('both nodes known to live', async () => {
      return (await here.nodes.get('here')) && (await here.nodes.get('there'))
    })
  }
  await there.close()
  const started = performance.now()
  const record = await until('the claim', () => here.sessions.claim('s', { owner: 'here', generation }))
  expect(record.generation).toBeGreaterThan(generation)
  expect(performance.now() - started, 'long before its lease of 60 s was over').toBeLessThan(5000)
  await here.close()
})

test('appends of four stores over the same sessions, in any order, never deadlock', async () => {
  const schema = newSchema()
  const stores = await Promise.all(
    Array.from({ length: 4 }, () => openStore({ url: inject('postgresUrl'), schema })),
  )
  const client = await admin(inject('postgresUrl'))
  const deadlocks = async () => {
    await client.query('SELECT pg_stat_clear_snapshot()')
    return Number((await client.query('SELECT sum(deadlocks) AS n FROM pg_stat_database')).rows[0].n)
  }
  const before = await deadlocks()
  const ids = Array.from({ length: 40 }, (_, i) => `s${i}`)
  const state = { initialize: '{}', protocolVersion: '2025-11-25' }
  const generations = new Map<string, number>()
  for (const id of ids) {
    generations.set(
      id,
      await stores[0]!.sessions.create({ id, principal: null, state, owner: 'n', ttl: TTL }),
    )
  }
  const event = { streamId: 'a', kind: 'message', payload: '{}' } as const
  await Promise.all(
    stores.map(async (store, k) => {
      for (let round = 0; round < 40; round++) {
        const mixed = ids.toSorted(() => Math.random() - 0.5)
        const calls: Promise<unknown>[] = mixed.map((sessionId) =>
          store.log.append({
            sessionId,
            events: [event],
            generation: generations.get(sessionId)!,
            ttl: TTL,
            limit: 50,
          }),
        )
        calls.push(store.sessions.touch(mixed.map((id) => ({ id, ttl: TTL * 2, delivered: round }))))
        calls.push(store.log.append({ sessionId: `new-${round}-${k % 2}`, events: [event, event], ttl: TTL }))
        if (round % 10 === k) calls.push(store.sweep())
        await Promise.all(calls)
      }
    }),
  )
  const page = await stores[1]!.log.read({ sessionId: 's7', after: 0, limit: 1000 })
  expect(page.last).toBe(160)
  expect(await deadlocks()).toBe(before)
  await Promise.all(stores.map((store) => store.close()))
}, 60_000)
