import assert from 'node:assert/strict'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import { append, MINUTE, message, payloads, range, readAll, rejectsWith, session, turn } from './support.ts'

export function appendAndOrder({ test, all, pair }: Suite): void {
  test('append: positions rise over all streams of a session, each session for itself', async (store) => {
    const first = await append(store, 's1', 'a', message(1))
    const second = await append(store, 's1', 'b', message(2))
    const third = await append(store, 's1', 'a', message(3))
    assert.ok(first > 0 && first < second && second < third)
    const other = await append(store, 's2', 'a', message(1))
    assert.deepEqual(
      (await readAll(store, 's2')).map(({ position }) => position),
      [other],
    )
  })

  test('append: the events of one append are stored together, in order, of whatever kind', async (store) => {
    const events = [
      { streamId: 'a', kind: 'open', payload: '{"id":1}' },
      { streamId: 'b', kind: 'message', payload: message('b') },
      { streamId: 'a', kind: 'final', payload: message('result') },
      { streamId: 'b', kind: 'end', payload: '' },
    ] as const
    const { positions, epoch } = await store.log.append({ sessionId: 's', events, ttl: MINUTE })
    assert.equal(positions.length, 4)
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 10 })
    assert.deepEqual(
      page.events,
      events.map((event, i) => ({ ...event, position: positions[i] })),
    )
    assert.equal(page.epoch, epoch)
    assert.equal(page.last, positions.at(-1))
    assert.equal(page.floor, 0)
  })

  test('append: un-awaited appends are stored in the order of the calls', async (store) => {
    const calls = range(300).map((i) => append(store, 's', `stream-${i % 3}`, message(i)))
    const positions = await Promise.all(calls)
    assert.deepEqual(
      positions,
      [...positions].sort((a, b) => a - b),
    )
    assert.deepEqual(
      await payloads(store, 's'),
      range(300).map((i) => message(i)),
    )
  })

  test('append: many sessions at once keep to themselves', async (store) => {
    await Promise.all(range(400).map((i) => append(store, `s${i % 40}`, 'a', message(i))))
    for (const s of range(40)) {
      const expected = range(10).map((k) => message(s + 40 * k))
      assert.deepEqual(await payloads(store, `s${s}`), expected)
    }
  })

  test('append: one bad append in a batch fails alone', async (store) => {
    const generation = await store.sessions.create(session('fenced', 'node'))
    const good = range(50).map((i) => append(store, 'good', 'a', message(i)))
    const bad = [
      rejectsWith('FENCED', append(store, 'fenced', 'a', message('stale'), { generation: generation + 1 })),
      rejectsWith('SESSION_GONE', append(store, 'nobody', 'a', message('gone'), { generation: 1 })),
    ]
    const also = range(50).map((i) => append(store, 'fenced', 'a', message(i), { generation }))
    await Promise.all([...good, ...bad, ...also])
    const expected = range(50).map((i) => message(i))
    assert.deepEqual(await payloads(store, 'good'), expected)
    assert.deepEqual(await payloads(store, 'fenced'), expected)
    assert.deepEqual(await payloads(store, 'nobody'), [])
  })

  all('append: 16 writers and a resuming reader: nothing missed, nothing twice, in order', async (stores) => {
    const writers = 16
    const each = 40
    const reader = follow(stores.at(-1)!, 's', writers * each)
    const written = await Promise.all(
      range(writers).map(async (w) => {
        const calls: Promise<number>[] = []
        for (const i of range(each)) {
          calls.push(append(stores[w % stores.length]!, 's', 'one', `${w}:${i}`))
          if (i % 7 === w % 7) await turn()
        }
        return Promise.all(calls)
      }),
    )
    const seen = await reader
    assert.deepEqual(
      seen.map(({ position }) => position),
      written.flat().sort((a, b) => a - b),
    )
    for (const w of range(writers)) {
      const own = seen.map(({ payload }) => payload).filter((payload) => payload.startsWith(`${w}:`))
      assert.deepEqual(
        own,
        range(each).map((i) => `${w}:${i}`),
        `the events of writer ${w} stand in the order of its calls`,
      )
    }
    assert.deepEqual(await readAll(stores[0]!, 's'), seen, 'and the log reads the same afterwards')
  })

  pair('append: what one store acknowledged the other finds at once', async (one, two) => {
    for (const i of range(20)) {
      const position = await append(i % 2 === 0 ? one : two, 's', 'a', message(i))
      const page = await (i % 2 === 0 ? two : one).log.read({ sessionId: 's', after: position - 1, limit: 5 })
      assert.deepEqual(page.events, [{ streamId: 'a', kind: 'message', payload: message(i), position }])
    }
  })
}

/** A client that resumes again and again from the last event it saw, until it has seen `count`. */
async function follow(store: Store, sessionId: string, count: number) {
  const seen: Awaited<ReturnType<typeof readAll>> = []
  const deadline = performance.now() + 25_000
  for (let limit = 1; seen.length < count; limit = (limit % 37) + 1) {
    assert.ok(performance.now() < deadline, `the reader saw ${seen.length} of ${count} events and no more`)
    const after = seen.at(-1)?.position ?? 0
    const { events } = await store.log.read({ sessionId, after, limit })
    for (const event of events) {
      assert.ok(event.position > (seen.at(-1)?.position ?? 0), 'positions rise')
      seen.push(event)
    }
    await turn()
  }
  return seen
}
