import assert from 'node:assert/strict'
import type { LogPage, Transfer } from '../store/port.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import {
  append,
  claimed,
  eventually,
  MINUTE,
  message,
  payloads,
  range,
  readAll,
  rejectsWith,
  session,
  startNode,
  state,
} from './support.ts'

function transferOf(store: Store): Transfer {
  assert.ok(
    store.transfer,
    'the store has a transfer; the test file of one that cannot be copied says `copies: false`',
  )
  return store.transfer
}

async function idsOf(store: Store): Promise<string[]> {
  const ids = new Set<string>()
  for await (const id of transferOf(store).ids()) ids.add(id)
  return [...ids].sort()
}

/** A page as another store would hand it over. */
function page(over: Partial<LogPage> = {}): LogPage {
  const now = Date.now()
  const events = [1, 2, 5].map((position) => ({
    streamId: position === 2 ? 'other stream %' : 'a',
    kind: 'message' as const,
    payload: message(`ž🐎\u0000 ${position}`),
    position,
    expiresAt: now + 10 * MINUTE,
  }))
  const record = { principal: 'somebody', state, delivered: 2, createdAt: now - 5000, lastUsedAt: now - 1000 }
  return {
    sessionId: 's',
    epoch: 'abcd0123',
    generation: 3,
    expiresAt: now + 15 * MINUTE,
    floor: 0,
    last: 5,
    more: false,
    corrupt: 0,
    scanned: 5,
    events,
    open: [],
    session: { ...record, ttl: 15 * MINUTE },
    ...over,
  }
}

async function take(store: Store, sessionId = 's', after = 0, limit = 100): Promise<LogPage | undefined> {
  const found = await transferOf(store).take({ sessionId, after, limit })
  assert.ok(!found || !('terminatedUntil' in found), 'it was not terminated')
  return found
}

export function transfer({ test, corrupt, ms, copies }: Suite): void {
  if (!copies) return
  test('transfer: a log and its record are taken as they are, in pages', async (store) => {
    await startNode(store, 'node')
    const created = await store.sessions.create(session('s', 'node', 2 * MINUTE, 'somebody'))
    const { generation } = await claimed(store, 's', 'node', created)
    for (const i of range(7)) await append(store, 's', `stream ${i % 2}`, message(i), { generation })
    const before = Date.now()
    await append(store, 'log {only}%', 'a', message('log'), { ttl: MINUTE })
    assert.deepEqual(await idsOf(store), ['log {only}%', 's'])
    const record = (await store.sessions.get('s'))!
    const first = (await take(store, 's', 0, 4))!
    const rest = (await take(store, 's', first.events.at(-1)!.position, 4))!
    assert.deepEqual([first.more, first.events.length, rest.more, rest.events.length], [true, 4, false, 3])
    const taken = [...first.events, ...rest.events].map(({ expiresAt: _expiresAt, ...event }) => event)
    assert.deepEqual(taken, await readAll(store, 's'))
    const { epoch, last } = await store.log.read({ sessionId: 's', after: 0, limit: 1 })
    assert.deepEqual([first.epoch, first.last, first.generation, first.corrupt], [epoch, last, generation, 0])
    assert.match(first.epoch, /^[0-9a-zA-Z]{8}$/)
    assert.ok(Math.abs(first.expiresAt - record.expiresAt) <= 1)
    const kept = { principal: 'somebody', state, delivered: 0, ttl: 2 * MINUTE }
    const { createdAt, lastUsedAt, ...others } = first.session!
    assert.deepEqual(others, kept)
    assert.ok(Math.abs(createdAt - record.createdAt) <= 1 && Math.abs(lastUsedAt - record.lastUsedAt) <= 1)
    const log = (await take(store, 'log {only}%'))!
    assert.equal(log.session, null)
    assert.ok(
      Math.abs(log.events[0]!.expiresAt - (before + MINUTE)) < 10_000,
      'the event expires when it did',
    )
    assert.equal(await take(store, 'nobody'), undefined)
  })

  test('transfer: what is put is there as it was, and clients resume against it', async (store) => {
    const given = page()
    assert.equal(await transferOf(store).put(given), true)
    const taken = (await take(store))!
    assert.deepEqual(taken.events, given.events)
    assert.deepEqual(
      [taken.epoch, taken.generation, taken.last, taken.session],
      [given.epoch, given.generation, given.last, given.session],
    )
    assert.ok(Math.abs(taken.expiresAt - given.expiresAt) <= 1)
    assert.ok(taken.floor < 1)
    const record = (await store.sessions.get('s'))!
    assert.deepEqual([record.owner, record.ownerAlive, record.generation], [null, false, 3])
    assert.deepEqual(
      (await store.sessions.list()).sessions.map(({ id }) => id),
      ['s'],
    )
    const { generation } = await claimed(store, 's', 'node', 3)
    await rejectsWith('FENCED', append(store, 's', 'a', message('stale'), { generation: 3 }))
    const position = await append(store, 's', 'a', message('new'), { generation })
    assert.ok(position > 5, 'positions go on')
    assert.deepEqual(
      (await readAll(store, 's', { streamId: 'a', after: 1 })).map((event) => event.position),
      [5, position],
    )
  })

  test('transfer: putting again doubles nothing, and goes on where it was', async (store) => {
    const given = page()
    const [one, ...more] = given.events
    const put = (over: Partial<LogPage>) => transferOf(store).put({ ...given, ...over })
    assert.equal(await put({ events: [one!], more: true }), true)
    assert.equal(await put({ events: [one!], more: true }), true)
    assert.equal(await put({ events: more }), true)
    assert.equal(await put({}), true)
    assert.deepEqual(
      await payloads(store, 's'),
      given.events.map(({ payload }) => payload),
    )
    const later = { ...one!, position: 9, payload: message('later') }
    const record = { ...given.session!, delivered: 5 }
    assert.equal(
      await put({ events: [...given.events, later], last: 9, generation: 4, session: record }),
      true,
    )
    const taken = (await take(store))!
    assert.deepEqual([taken.events.length, taken.last, taken.generation], [4, 9, 4])
    assert.equal(taken.session?.delivered, 5)
  })

  test('transfer: a session that went its own way is left alone', async (store) => {
    const put = (over: Partial<LogPage>) => transferOf(store).put(page(over))
    await put({})
    await store.sessions.claim('s', { owner: 'node', generation: 3 })
    const before = await take(store)
    assert.equal(await put({ last: 7 }), false, 'a later generation')
    assert.equal(await put({ epoch: 'ffff9999', generation: 9 }), false, 'another epoch')
    assert.deepEqual(await take(store), before)
    await store.sessions.terminate('s')
    assert.equal(await put({ generation: 9 }), false, 'a tombstone')
    assert.equal(await store.sessions.get('s'), undefined)
    assert.deepEqual(await idsOf(store), [])
  })

  test('transfer: a tombstone is taken, and ends the session wherever it is put', async (store) => {
    const id = (sessionId: string) => ({ sessionId, after: 0, limit: 10 })
    await store.sessions.create(session('ended', 'node'))
    await store.sessions.terminate('ended')
    const taken = await transferOf(store).take(id('ended'))
    assert.ok(taken && 'terminatedUntil' in taken, 'what is left of it')
    assert.equal(taken.sessionId, 'ended')
    assert.ok(Math.abs(taken.terminatedUntil - (Date.now() + MINUTE)) < 30_000)
    assert.deepEqual(await idsOf(store), [], 'a tombstone is no log')

    const until = Date.now() + MINUTE
    const bury = (sessionId: string) => transferOf(store).put({ sessionId, terminatedUntil: until })
    await transferOf(store).put(page())
    const { generation } = await claimed(store, 's', 'node', 3)
    await transferOf(store).put(page({ sessionId: 'log', session: null, generation: 0 }))
    for (const sessionId of ['s', 'log', 'never']) {
      assert.equal(await bury(sessionId), true, sessionId)
      assert.equal(await bury(sessionId), true, 'again')
      assert.equal(await store.sessions.get(sessionId), undefined)
      assert.deepEqual(await readAll(store, sessionId), [])
      await rejectsWith('SESSION_GONE', store.sessions.create(session(sessionId, 'node')))
      assert.equal(await transferOf(store).put(page({ sessionId, generation: 9 })), false)
    }
    await rejectsWith(['SESSION_GONE', 'FENCED'], append(store, 's', 'a', message(1), { generation }))
    assert.deepEqual(await store.sessions.touch([{ id: 's', generation }]), ['s'])
    assert.deepEqual([await idsOf(store), (await store.sessions.list()).sessions], [[], []])
  })

  test('transfer: a tombstone goes when its time is over', async (store) => {
    await transferOf(store).put({ sessionId: 's', terminatedUntil: Date.now() + ms(400) })
    await rejectsWith('SESSION_GONE', store.sessions.create(session('s', 'node')))
    await eventually('the id is free', () =>
      store.sessions.create(session('s', 'node')).then(
        () => true,
        () => false,
      ),
    )
    assert.ok(await store.sessions.get('s'))
  })

  test('transfer: open streams travel with their log, on every page', async (store) => {
    const generation = await store.sessions.create(session('s', 'gone'))
    const events = ['b', 'a', 'b'].map((streamId) => ({ streamId, kind: 'open', payload: streamId }) as const)
    await store.log.append({ sessionId: 's', events, generation, ttl: MINUTE })
    for (const i of range(4)) await append(store, 's', 'a', message(i), { generation, limit: 3 })
    const open = [
      { streamId: 'b', payload: 'b', runs: 2 },
      { streamId: 'a', payload: 'a', runs: 1 },
    ]
    const taken = (await take(store, 's', 0, 1))!
    assert.deepEqual(taken.open, open)
    assert.equal(await transferOf(store).put({ ...taken, sessionId: 'copy' }), true)
    assert.deepEqual((await take(store, 'copy'))!.open, open)
    const later = { streamId: 'c', payload: 'ž🐎\u0000', runs: 1 }
    assert.equal(await transferOf(store).put({ ...taken, sessionId: 'copy', open: [open[1]!, later] }), true)
    const record = await claimed(store, 'copy', 'next', generation)
    assert.deepEqual(record.open, [open[1], later])
    await transferOf(store).put(page({ sessionId: 'log', session: null, generation: 0, open }))
    assert.deepEqual((await take(store, 'log'))!.open, open, 'of a log without a record too')
    await append(store, 'log', 'a', '', { touch: true })
    await store.log.append({
      sessionId: 'log',
      events: [{ streamId: 'b', kind: 'end', payload: '' }],
      ttl: MINUTE,
    })
    assert.deepEqual((await take(store, 'log'))!.open, [open[1]])
  })

  test('transfer: a log without a record, and one that has lost all its events', async (store) => {
    await transferOf(store).put(page({ session: null, generation: 0 }))
    assert.equal(await store.sessions.get('s'), undefined)
    assert.ok((await append(store, 's', 'a', message('unfenced'))) > 5)
    await transferOf(store).put(page({ sessionId: 'empty', events: [], floor: 5 }))
    const empty = (await take(store, 'empty'))!
    assert.deepEqual([empty.floor, empty.last, empty.events], [5, 5, []])
    await transferOf(store).put(page({ sessionId: 'lost', last: 8 }))
    assert.equal((await take(store, 'lost'))!.last, 8, 'a position that was given out is not given out again')
    assert.ok((await append(store, 'lost', 'a', message('next'), { generation: 3 })) > 8)
  })

  test('transfer: holes between positions are no events', async (store) => {
    const { events } = page()
    const sparse = events.map((event, i) => ({ ...event, position: 1_700_000_000_000_000 + i * 1_000_000 }))
    const last = sparse.at(-1)!.position
    const expiresAt = Date.now() + 10 * MINUTE
    await transferOf(store).put(page({ events: sparse.map((event) => ({ ...event, expiresAt })), last }))
    for (const i of range(5)) await append(store, 's', 'a', message(i), { generation: 3, limit: 10 })
    assert.equal((await readAll(store, 's')).length, 8)
    for (const i of range(12)) await append(store, 's', 'a', message(i), { generation: 3, limit: 10 })
    const left = await readAll(store, 's')
    assert.ok(left.length >= 10 && left.length <= 11, `${left.length} are left of 20, with a limit of 10`)
    assert.equal(left.at(-1)!.payload, message(11))
  })

  test('transfer: what was put expires when it would have', async (store) => {
    const soon = Date.now() + ms(1500)
    const [first, ...others] = page().events
    await transferOf(store).put(page({ events: [{ ...first!, expiresAt: soon }, ...others] }))
    assert.equal((await readAll(store, 's')).length, 3)
    await eventually('the first event is gone', async () => (await readAll(store, 's')).length === 2)
    assert.ok(Date.now() >= soon)
    await transferOf(store).put(page({ sessionId: 'short', expiresAt: Date.now() + ms(500) }))
    await eventually('the session is gone', async () => !(await store.sessions.get('short')))
    assert.equal(await take(store, 'short'), undefined)
  })

  if (corrupt) {
    test('transfer: what cannot be decoded is counted', async (store) => {
      await transferOf(store).put(page())
      await corrupt('s', 2)
      const { events, corrupt: count, scanned } = (await take(store))!
      assert.deepEqual([events.map(({ position }) => position), count], [[1, 5], 1])
      assert.ok(scanned >= 5)
      await corrupt('s', 1)
      // Whether or not a page goes on beyond what cannot be decoded, it says where the next one begins.
      const left: number[] = []
      let lost = 0
      for (let after = 0, more = true; more; ) {
        const part = (await take(store, 's', after, 1))!
        left.push(...part.events.map(({ position }) => position))
        lost += part.corrupt
        more = part.more
        assert.ok(!more || part.scanned > after, 'each page gets on')
        after = part.scanned
      }
      assert.deepEqual([left, lost], [[5], 2])
    })
  }
}
