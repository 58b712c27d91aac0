import { spawn } from 'node:child_process'
import { once } from 'node:events'
import pg from 'pg'
import { expect, inject, test } from 'vitest'
import { program } from '../support/programs.ts'
import { newSchema, openStore } from './support.ts'

const WRITERS = 8

interface Row {
  readonly position: number
  readonly payload: string
}

/** Two processes write; a client resumes from the last position it saw until all is written and read. */
async function race(
  how: 'store' | 'taking turns' | 'identity',
  schema: string,
  each: number,
  read: (after: number) => Promise<readonly Row[]>,
): Promise<Row[]> {
  const children = ['A', 'B'].map((name) =>
    spawn(
      process.execPath,
      [program('postgres/writer.ts'), how, inject('postgresUrl'), schema, name, `${WRITERS}`, `${each}`],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    ),
  )
  const exits = Promise.all(children.map((child) => once(child, 'exit')))
  let writing = true
  exits.then(() => {
    writing = false
  })
  const seen: Row[] = []
  for (;;) {
    const last = !writing
    const rows = await read(seen.at(-1)?.position ?? 0)
    seen.push(...rows)
    if (last && rows.length === 0) break
  }
  expect((await exits).map(([code]) => code)).toEqual([0, 0])
  return seen
}

function expected(each: number): string[] {
  const names = ['A', 'B'].flatMap((name) => Array.from({ length: WRITERS }, (_, i) => `${name}${i}`))
  return names.flatMap((name) => Array.from({ length: each }, (_, i) => `${name}:${i}`))
}

/** What is wrong with what a resuming client saw; nothing, if it is right. */
function faults(seen: readonly Row[], each: number): string[] {
  const found: string[] = []
  const payloads = new Set(seen.map(({ payload }) => payload))
  const lost = expected(each).filter((payload) => !payloads.has(payload)).length
  if (lost > 0) found.push('lost')
  if (payloads.size < seen.length) found.push('doubled')
  if (seen.some(({ position }, i) => i > 0 && position <= seen[i - 1]!.position)) found.push('out of order')
  const next = new Map<string, number>()
  for (const { payload } of seen) {
    const [writer, count] = payload.split(':') as [string, string]
    if (Number(count) < (next.get(writer) ?? 0)) found.push(`writer ${writer} out of order`)
    next.set(writer, Number(count) + 1)
  }
  return found
}

test('16 writers in 2 processes, 50,000 events of one session: a resuming reader sees each once, in order', async () => {
  const each = 3_130
  const schema = newSchema()
  const store = await openStore({ url: inject('postgresUrl'), schema })
  const seen = await race('store', schema, each, async (after) => {
    const { events } = await store.log.read({ sessionId: 's', streamId: 'a', after, limit: 500 })
    return events
  })
  expect(seen).toHaveLength(expected(each).length)
  expect(faults(seen, each)).toEqual([])
  await store.close()
}, 180_000)

test('2 processes that take a session from each other all the time, appending from memory: each event once, in order', async () => {
  const each = 400
  const schema = newSchema()
  const store = await openStore({ url: inject('postgresUrl'), schema })
  const state = { initialize: '{}', protocolVersion: '2025-11-25' }
  await store.sessions.create({ id: 's', principal: null, state, owner: 'nobody', ttl: 3_600_000 })
  const seen = await race('taking turns', schema, each, async (after) => {
    const { events } = await store.log.read({ sessionId: 's', streamId: 'a', after, limit: 500 })
    return events
  })
  expect(seen).toHaveLength(expected(each).length)
  expect(faults(seen, each)).toEqual([])
  const turns = seen.filter(({ payload }, i) => i > 0 && payload[0] !== seen[i - 1]!.payload[0]).length
  expect(turns).toBeGreaterThan(10)
  await store.close()
}, 180_000)

test('the control: positions from an identity column fail the same check', async () => {
  const each = 1_000
  const schema = newSchema()
  const client = new pg.Client({ connectionString: inject('postgresUrl') })
  await client.connect()
  await client.query(
    `CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.control (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text)`,
  )
  const seen = await race('identity', schema, each, async (after) => {
    const text = `SELECT id, payload FROM ${schema}.control WHERE id > $1 ORDER BY id LIMIT 500`
    const { rows } = await client.query(text, [after])
    return rows.map(({ id, payload }) => ({ position: Number(id), payload }))
  })
  expect(faults(seen, each)).toContain('lost')
  await client.end()
}, 180_000)
