import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Redis } from 'ioredis'
import { inject, test } from 'vitest'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { program } from '../support/programs.ts'
import type { WritersOrder } from './writers.ts'

const url = inject('redisUrl')
const PROCESSES = 2
const WRITERS = 16

/** Runs 16 writers in two processes; `done()` is true once both have ended. */
function startWriters(form: WritersOrder['form'], keyPrefix: string, total: number) {
  const all = Array.from({ length: WRITERS }, (_, w) => `w${w}`)
  let running = PROCESSES
  const children = Array.from({ length: PROCESSES }, (_, p) => {
    const writers = all.filter((_, w) => w % PROCESSES === p)
    const order: WritersOrder = { url, keyPrefix, form, writers, each: total / WRITERS }
    return fork(program('redis/writers.ts'), [JSON.stringify(order)])
  })
  const ended = Promise.all(
    children.map(async (child) => {
      const [code] = await once(child, 'exit')
      running -= 1
      assert.equal(code, 0, 'a writing process failed')
    }),
  )
  return { ended, done: () => running === 0, kill: () => children.forEach((child) => void child.kill()) }
}

test('16 writers in 2 processes, a resuming reader: none of 50,000 lost, none twice, in order', async () => {
  const total = 50_000
  const keyPrefix = `ordering:${randomUUID()}:`
  const store = new RedisEventStore({ url, keyPrefix })
  const writers = startWriters('store', keyPrefix, total)
  try {
    const seen: { position: number; payload: string }[] = []
    for (;;) {
      const last = writers.done()
      const { events } = await store.log.read({
        sessionId: 's',
        after: seen.at(-1)?.position ?? 0,
        limit: 500,
      })
      seen.push(...events)
      if (last && events.length === 0) break
    }
    await writers.ended
    assert.equal(seen.length, total)
    assert.equal(new Set(seen.map(({ payload }) => payload)).size, total)
    const next = new Map<string, number>()
    for (const [i, { position, payload }] of seen.entries()) {
      assert.ok(i === 0 || position > seen[i - 1]!.position, 'order equals id order')
      const [writer, number] = payload.split(':') as [string, string]
      assert.equal(Number(number), next.get(writer) ?? 0, `${writer} in the order of its calls`)
      next.set(writer, Number(number) + 1)
    }
  } finally {
    writers.kill()
    await store.close()
  }
}, 120_000)

test('the control: ids from a counter, stored in a second step, lose events for a resuming reader', async () => {
  const total = 16_000
  const keyPrefix = `control:${randomUUID()}:`
  const client = new Redis(url)
  const writers = startWriters('naive', keyPrefix, total)
  try {
    const seen: string[] = []
    let after = 0
    for (;;) {
      const last = writers.done()
      const range = ['LIMIT', 0, 500, 'WITHSCORES'] as const
      const page = await client.call('zrangebyscore', `${keyPrefix}events`, `(${after}`, '+inf', ...range)
      const rows = page as string[]
      for (let i = 0; i < rows.length; i += 2) seen.push(rows[i]!)
      after = Number(rows.at(-1) ?? after)
      if (last && rows.length === 0) break
    }
    await writers.ended
    assert.equal(await client.zcard(`${keyPrefix}events`), total, 'all were stored')
    assert.ok(seen.length < total, `the reader saw ${seen.length} of ${total}: this control must miss some`)
  } finally {
    writers.kill()
    client.disconnect()
  }
}, 120_000)
