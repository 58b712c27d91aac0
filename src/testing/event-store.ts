import assert from 'node:assert/strict'
import type { GapReason } from '../store/port.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import { append, eventually, message, range, readAll, session } from './support.ts'

/** What no event id may ever be taken for. */
const NONSENSE = [
  '',
  ' ',
  '0',
  '1',
  '-1',
  '-1.a.b.c',
  'abc',
  'NaN',
  '1e9',
  '9'.repeat(40),
  'z'.repeat(5_000),
  '....',
  '1.%.%.%',
  "1'; DROP TABLE events; --",
  '1 OR 1=1',
  '../../etc/passwd',
  '_GET_stream',
  '\u0000',
  '🐎',
  '{"stream":"a"}',
]

const json = (text: string | number) => JSON.parse(message(text))

/** What a client that resumes after `eventId` receives, and what it is told about gaps. */
async function resume(store: Store, sessionId: string, eventId: string) {
  const received: { id: string; message: unknown }[] = []
  const gaps: GapReason[] = []
  const eventStore = store.forSession(sessionId, { onGap: ({ reason }) => gaps.push(reason) })
  const streamId = await eventStore.replayEventsAfter(eventId, {
    send: async (id, message) => {
      received.push({ id, message })
    },
  })
  return { received, gaps: [...new Set(gaps)], streamId }
}

export function eventStore({ test, pair, ms }: Suite): void {
  test('event store: resuming after event k of n delivers k+1..n with their ids, and never k', async (store) => {
    const events = store.forSession('s')
    const ids: string[] = []
    for (const i of range(8)) ids.push(await events.storeEvent('a', json(i)))
    assert.equal(new Set(ids).size, 8)
    for (const k of range(8)) {
      const { received, gaps, streamId } = await resume(store, 's', ids[k]!)
      const rest = range(8).slice(k + 1)
      assert.deepEqual(
        received,
        rest.map((i) => ({ id: ids[i], message: json(i) })),
      )
      assert.deepEqual([gaps, streamId], [[], 'a'])
      assert.equal(await events.getStreamIdForEventId(ids[k]!), 'a')
    }
  })

  test('event store: of two streams that interleave, resuming one delivers nothing of the other', async (store) => {
    const names = ['a', 'a:stream', '', '%', "it's", '_GET_stream', '🐎 / 1']
    const events = store.forSession('s')
    const first = await Promise.all(names.map((name) => events.storeEvent(name, json(`first of ${name}`))))
    const second = await Promise.all(names.map((name) => events.storeEvent(name, json(`second of ${name}`))))
    for (const [i, name] of names.entries()) {
      const { received, streamId } = await resume(store, 's', first[i]!)
      assert.deepEqual(received, [{ id: second[i], message: json(`second of ${name}`) }])
      assert.equal(streamId, name)
      assert.equal(await events.getStreamIdForEventId(second[i]!), name)
    }
  })

  test('event store: unknown, negative, huge and injection-like ids deliver nothing and never raise', async (store) => {
    const events = store.forSession('s')
    const id = await events.storeEvent('a', json(1))
    await events.storeEvent('a', json(2))
    const [position, epoch, tag, stream] = id.split('.')
    const forged = [
      `${id} `,
      `${id}%61`,
      ` ${id}`,
      `-${id}`,
      id.toUpperCase(),
      `0${id}`,
      `${position}.${epoch}.${'A'.repeat(8)}.${stream}`,
      `zzzzzzzzzzz.${epoch}.${tag}.${stream}`,
      `${'9'.repeat(30)}.${epoch}.${tag}.${stream}`,
      `${position}.${epoch}.${tag}.%E0%A4%A`,
      `${position}.${epoch}.${tag}`,
    ]
    for (const nonsense of [...NONSENSE, ...forged]) {
      assert.deepEqual((await resume(store, 's', nonsense)).received, [], nonsense.slice(0, 50))
      assert.equal(await events.getStreamIdForEventId(nonsense), undefined, nonsense.slice(0, 50))
    }
    const foreign = `${position}.${epoch}.${tag}.another-stream`
    assert.deepEqual((await resume(store, 's', foreign)).received, [])
    assert.equal((await resume(store, 's', id)).received.length, 1)
  })

  test('event store: a priming event is a resume point, and is never replayed or missed', async (store) => {
    const events = store.forSession('s')
    const primed = await events.storeEvent('a', {})
    const first = await events.storeEvent('a', json(1))
    const again = await events.storeEvent('a', {})
    const second = await events.storeEvent('a', json(2))
    assert.deepEqual(await resume(store, 's', primed), {
      received: [
        { id: first, message: json(1) },
        { id: second, message: json(2) },
      ],
      gaps: [],
      streamId: 'a',
    })
    assert.deepEqual((await resume(store, 's', again)).received, [{ id: second, message: json(2) }])
  })

  test('event store: a message that is no JSON is skipped and reported, all others arrive', async (store) => {
    const events = store.forSession('s')
    const primed = await events.storeEvent('a', {})
    const first = await events.storeEvent('a', json(1))
    await append(store, 's', 'a', '{"jsonrpc":"2.0","trunca')
    const second = await events.storeEvent('a', json(2))
    const { received, gaps } = await resume(store, 's', primed)
    assert.deepEqual(
      received.map(({ id }) => id),
      [first, second],
    )
    assert.deepEqual(gaps, ['corrupt'])
  })

  test('event store: sessions that share stream names never receive of each other', async (store) => {
    const names = ['s', 's1', 's11', 's1:a', 'S', '%', "'"]
    const ids = new Map<string, string[]>()
    for (const name of names) {
      const events = store.forSession(name)
      ids.set(name, [
        await events.storeEvent('_GET_stream', json(`first of ${name}`)),
        await events.storeEvent('_GET_stream', json(`second of ${name}`)),
      ])
    }
    for (const name of names) {
      const [first, second] = ids.get(name)!
      assert.deepEqual((await resume(store, name, first!)).received, [
        { id: second, message: json(`second of ${name}`) },
      ])
      for (const other of names.filter((other) => other !== name)) {
        assert.deepEqual((await resume(store, name, ids.get(other)![0]!)).received, [])
        const known = await store.forSession(name).getStreamIdForEventId(ids.get(other)![0]!)
        assert.equal(known, undefined, 'an id of another session')
      }
    }
  })

  test('event store: when the anchor has expired, the rest arrives and the gap is told', async (store) => {
    const anchor = await store.forSession('s', { ttl: ms(300) / 1000 }).storeEvent('a', json('anchor'))
    await store.forSession('s', { ttl: ms(300) / 1000 }).storeEvent('a', json('lost'))
    const kept = await store.forSession('s').storeEvent('a', json('kept'))
    await eventually('the first two expire', async () => {
      while ((await store.sweep()).more);
      return (await readAll(store, 's')).length === 1
    })
    assert.deepEqual(await resume(store, 's', anchor), {
      received: [{ id: kept, message: json('kept') }],
      gaps: ['expired-or-trimmed'],
      streamId: 'a',
    })
  })

  test('event store: trimmed events are told as a gap, also when no row is left as evidence', async (store) => {
    const events = store.forSession('s')
    const anchor = await events.storeEvent('a', json('anchor'))
    for (const i of range(20)) await append(store, 's', 'b', message(i), { limit: 1 })
    const { received, gaps } = await resume(store, 's', anchor)
    assert.deepEqual([received, gaps], [[], ['expired-or-trimmed']])
    await store.log.delete('s')
    assert.deepEqual((await resume(store, 's', anchor)).gaps, ['expired-or-trimmed'])
    const reborn = await events.storeEvent('a', json('reborn'))
    assert.deepEqual(await resume(store, 's', anchor), {
      received: [{ id: reborn, message: json('reborn') }],
      gaps: ['store-replaced'],
      streamId: 'a',
    })
  })

  test('event store: an id beyond the end is told as a gap, to that client alone, and passes nothing over', async (store) => {
    const events = store.forSession('s')
    const first = await events.storeEvent('a', json(1))
    const second = await events.storeEvent('a', json(2))
    const [position, epoch, tag, stream] = second.split('.')
    for (const ahead of [1, 10 ** 9]) {
      const future = `${(Number.parseInt(position!, 36) + ahead).toString(36)}.${epoch}.${tag}.${stream}`
      assert.deepEqual(await resume(store, 's', future), { received: [], gaps: ['lost'], streamId: 'a' })
    }
    const none = { received: [], gaps: [], streamId: 'a' }
    assert.deepEqual(await resume(store, 's', second), none, 'the end itself is no gap')
    // Nobody else notices: the epoch has not changed on a client's word.
    assert.deepEqual(await resume(store, 's', first), {
      ...none,
      received: [{ id: second, message: json(2) }],
    })
    assert.equal((await store.log.read({ sessionId: 's', after: 0, limit: 1 })).epoch, epoch)
  })

  test('event store: a stream of the SDK, which has no end, is no open stream', async (store) => {
    const events = store.forSession('s')
    for (const i of range(3)) await events.storeEvent(`stream ${i}`, {})
    const found = await store.transfer?.take({ sessionId: 's', after: 0, limit: 10 })
    assert.ok(!found || ('open' in found && found.open.length === 0))
  })

  test('event store: messages keep every character', async (store) => {
    const events = store.forSession('s')
    const odd = { jsonrpc: '2.0', method: 'x', params: { lone: '\ud800', nul: '\u0000', text: 'ž🐎\u2028' } }
    const first = await events.storeEvent('a', json(1))
    const id = await events.storeEvent('a', odd)
    assert.deepEqual((await resume(store, 's', first)).received, [{ id, message: odd }])
  })

  test('event store: it writes beside a live session record without disturbing it', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    await store.forSession('s').storeEvent('a', json(1))
    const record = await store.sessions.get('s')
    assert.deepEqual([record?.owner, record?.generation], ['node', generation])
    await append(store, 's', 'a', message(2), { generation })
    assert.equal((await readAll(store, 's')).length, 2)
  })

  pair('event store: an id of one store resumes at the other', async (one, two) => {
    const first = await one.forSession('s').storeEvent('a', json(1))
    const second = await two.forSession('s').storeEvent('a', json(2))
    const third = await one.forSession('s').storeEvent('a', json(3))
    const expected = [
      { id: second, message: json(2) },
      { id: third, message: json(3) },
    ]
    assert.deepEqual((await resume(one, 's', first)).received, expected)
    assert.deepEqual((await resume(two, 's', first)).received, expected)
  })
}
