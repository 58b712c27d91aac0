import assert from 'node:assert/strict'
import type { EventKind, NewEvent, OpenStream } from '../store/port.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import {
  append,
  claimed,
  eventually,
  MINUTE,
  message,
  range,
  readAll,
  rejectsWith,
  session,
  startNode,
} from './support.ts'

const event = (streamId: string, kind: EventKind, payload = ''): NewEvent => ({ streamId, kind, payload })
const open = (streamId: string, payload = `call ${streamId}`) => event(streamId, 'open', payload)

/** A session of a node that is gone, so that whoever asks what is open may claim it. */
async function started(store: Store, id = 's', ttl = MINUTE) {
  const generation = await store.sessions.create(session(id, 'gone', ttl))
  const put = (
    events: readonly NewEvent[],
    rest: { ttl?: number; limit?: number; generation?: number } = {},
  ) => store.log.append({ sessionId: id, events, generation, ttl: MINUTE, ...rest })
  return { generation, put }
}

async function openOf(store: Store, generation: number, id = 's'): Promise<readonly OpenStream[]> {
  return (await claimed(store, id, 'next', generation)).open
}

const names = (streams: readonly OpenStream[]) => streams.map(({ streamId }) => streamId)

export function openStreams({ test, all, pair, ms }: Suite): void {
  test('open streams: a claim answers them in the order in which they were opened', async (store) => {
    const { generation, put } = await started(store)
    await put([open('c'), event('c', 'message', message(1)), open('a')])
    await put([event('_GET_stream', 'message', message(2))])
    await put([open('b', 'ž🐎 "\u0000 \n')])
    await put([event('c', 'message', message(3))])
    const record = await claimed(store, 's', 'next', generation)
    assert.deepEqual(record.open, [
      { streamId: 'c', payload: 'call c', runs: 1 },
      { streamId: 'a', payload: 'call a', runs: 1 },
      { streamId: 'b', payload: 'ž🐎 "\u0000 \n', runs: 1 },
    ])
    const { open: _open, last: _last, ...rest } = record
    assert.deepEqual(rest, await store.sessions.get('s'), 'beside them it is the record')
  })

  test('open streams: what has ended is none, whichever way and in however many appends', async (store) => {
    const { generation, put } = await started(store)
    await put([open('quick'), event('quick', 'final', message(1))])
    await put([open('ended')])
    await put([event('ended', 'end')])
    await put([open('answered')])
    await put([event('answered', 'message', message(2))])
    await put([event('answered', 'final', message(3)), open('left')])
    await put([event('never', 'end')])
    await put([open('again'), event('again', 'end'), open('again', 'second life')])
    const found = await openOf(store, generation)
    assert.deepEqual(found, [
      { streamId: 'left', payload: 'call left', runs: 1 },
      { streamId: 'again', payload: 'second life', runs: 1 },
    ])
  })

  test('open streams: each `open` counts, and the latest is answered', async (store) => {
    const first = await started(store)
    await first.put([open('twice', 'first'), open('once')])
    const second = await claimed(store, 's', 'second', first.generation)
    await first.put([open('twice', 'second')], { generation: second.generation })
    const expected = [
      { streamId: 'twice', payload: 'second', runs: 2 },
      { streamId: 'once', payload: 'call once', runs: 1 },
    ]
    assert.deepEqual(await openOf(store, second.generation), expected)
    const third = (await store.sessions.get('s'))!.generation
    await first.put([open('twice', 'third'), open('twice', 'fourth')], { generation: third })
    const kept = await store.sessions.claim('s', { owner: 'next', generation: third, keep: true })
    assert.deepEqual(kept?.open, [{ streamId: 'twice', payload: 'fourth', runs: 4 }, expected[1]])
  })

  test('open streams: a refused append opens and ends nothing', async (store) => {
    const { generation, put } = await started(store)
    await put([open('a')])
    await rejectsWith('FENCED', put([open('b'), event('a', 'end')], { generation: generation + 1 }))
    assert.deepEqual(names(await openOf(store, generation)), ['a'])
  })

  test('open streams: neither a limit, nor the end of the events, nor the sweep reaches them', async (store) => {
    const { generation, put } = await started(store)
    await put([open('first')], { ttl: ms(200), limit: 10 })
    for (const i of range(60)) await put([event('busy', 'message', message(i))], { ttl: ms(200), limit: 10 })
    await put([open('last')], { ttl: ms(200), limit: 10 })
    assert.ok((await readAll(store, 's')).length <= 12)
    await eventually('the events are over', async () => {
      while ((await store.sweep({ limit: 100 })).more);
      return (await readAll(store, 's')).length === 0
    })
    assert.deepEqual(names(await openOf(store, generation)), ['first', 'last'])
    const next = (await store.sessions.get('s'))!.generation
    await put([event('first', 'end')], { generation: next })
    assert.deepEqual(names(await openOf(store, next)), ['last'])
  })

  test('open streams: they are gone with their session, and with their log', async (store) => {
    const { put } = await started(store, 'ended')
    await put([open('a')])
    await store.sessions.terminate('ended')
    const short = await started(store, 'expired', ms(300))
    await short.put([open('a')], { ttl: ms(300) })
    await eventually('it has expired', async () => !(await store.sessions.get('expired')))
    const { generation } = await started(store, 'expired')
    assert.deepEqual(await openOf(store, generation, 'expired'), [], 'a new session under an id of before')
    await append(store, 'log', 'a', message(1))
    await store.log.append({ sessionId: 'log', events: [open('a')], ttl: MINUTE })
    await store.log.delete('log')
    const log = await started(store, 'log')
    assert.deepEqual(await openOf(store, log.generation, 'log'), [])
    while ((await store.sweep({ limit: 100 })).more);
  })

  test('open streams: odd names are names, large requests are kept, and many are many', async (store) => {
    const { generation, put } = await started(store)
    const odd = ['', ' ', ':', '%', "'; --", '{tag}', '\u0000', 'ž🐎', '__proto__', 'x'.repeat(200), 'a', 'A']
    const large = 'žluť "\\\n'.repeat(2 ** 17)
    for (const name of odd) await put([open(name, name)])
    await put([open('large', large)])
    for (const block of range(5)) await put(range(60).map((i) => open(`many ${block * 60 + i}`)))
    const found = await openOf(store, generation)
    assert.deepEqual(names(found), [...odd, 'large', ...range(300).map((i) => `many ${i}`)])
    for (const [i, name] of odd.entries()) assert.equal(found[i]!.payload, name)
    assert.ok(found[odd.length]!.payload === large)
  })

  all('open streams: of calls that come and go at once, those that run are left', async (stores) => {
    const { generation } = await started(stores[0]!)
    const put = (events: readonly NewEvent[]) =>
      stores[0]!.log.append({ sessionId: 's', events, generation, ttl: MINUTE, limit: 50 })
    await Promise.all(
      range(80).map(async (i) => {
        await put([open(`call ${i}`, `${i}`)])
        await put([event(`call ${i}`, 'message', message(i))])
        if (i % 4 !== 0) await put([event(`call ${i}`, i % 2 ? 'final' : 'end', message(i))])
      }),
    )
    const found = await openOf(stores.at(-1)!, generation)
    const expected = range(20).map((i) => `call ${i * 4}`)
    assert.deepEqual([...names(found)].sort(), expected.sort())
    assert.ok(found.every(({ runs }) => runs === 1))
  })

  pair('open streams: whoever claims finds them, after a restart too', async (one, two) => {
    const { generation, put } = await started(one)
    await put([open('a')])
    const second = await claimed(two, 's', 'two', generation)
    assert.deepEqual(names(second.open), ['a'])
    await startNode(two, 'two')
    await two.sessions.release('s', second.generation)
    assert.deepEqual(names(await openOf(one, second.generation)), ['a'])
  })
}
