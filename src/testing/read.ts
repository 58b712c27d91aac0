import assert from 'node:assert/strict'
import type { GapReason } from '../store/port.ts'
import { replay } from '../store/replay.ts'
import type { Suite } from './suite.ts'
import { append, MINUTE, message, payloads, range, readAll } from './support.ts'

const ODD_NAMES = [
  '',
  'a',
  'a:stream',
  'a:stream:2',
  ':',
  '%',
  '_GET_stream',
  '_',
  "'; DROP TABLE events; --",
  '"quoted"',
  '{tag}',
  '*',
  '[a]',
  '../a',
  'ž🐎',
  'x'.repeat(200),
]

export function read({ test, corrupt }: Suite): void {
  test('read: strictly after the position asked for, of one stream or of all', async (store) => {
    const positions: number[] = []
    for (const i of range(10)) positions.push(await append(store, 's', i % 2 ? 'odd' : 'even', message(i)))
    const after = positions[3]!
    const all = await readAll(store, 's', { after })
    assert.deepEqual(
      all.map(({ position }) => position),
      positions.slice(4),
    )
    const odd = await readAll(store, 's', { after, streamId: 'odd' })
    assert.deepEqual(
      odd.map(({ payload }) => payload),
      [5, 7, 9].map((i) => message(i)),
    )
  })

  test('read: pages end where they say, and `more` is true only before the last', async (store) => {
    for (const i of range(10)) await append(store, 's', 'a', message(i))
    for (const limit of [1, 3, 5, 9, 10, 11]) {
      const page = await store.log.read({ sessionId: 's', streamId: 'a', after: 0, limit })
      assert.equal(page.events.length, Math.min(limit, 10))
      assert.equal(page.more, limit < 10, `limit ${limit}`)
      assert.equal((await readAll(store, 's', { limit })).length, 10)
    }
  })

  test('read: beyond the end, and of what does not exist, there is nothing', async (store) => {
    const nothing = { events: [], more: false, epoch: undefined, floor: 0, last: 0, corrupt: 0, scanned: 0 }
    assert.deepEqual(await store.log.read({ sessionId: 'nobody', after: 0, limit: 10 }), nothing)
    const last = await append(store, 's', 'a', message(1))
    for (const after of [last, last + 1, last + 2 ** 40, Number.MAX_SAFE_INTEGER]) {
      const page = await store.log.read({ sessionId: 's', after, limit: 10 })
      assert.deepEqual(page.events, [])
      assert.equal(page.more, false)
      assert.equal(page.last, last)
      assert.equal(page.scanned, after, 'never back')
    }
    const other = await store.log.read({ sessionId: 's', streamId: 'b', after: 0, limit: 10 })
    assert.deepEqual(other.events, [])
    assert.equal(typeof other.epoch, 'string')
  })

  test('read: odd stream names are names, and never meet', async (store) => {
    for (const name of ODD_NAMES) await append(store, 's', name, message(name))
    for (const name of ODD_NAMES) assert.deepEqual(await payloads(store, 's', name), [message(name)])
    assert.equal((await readAll(store, 's')).length, ODD_NAMES.length)
  })

  test('read: odd session names, and names that begin alike, never meet', async (store) => {
    const names = [...ODD_NAMES.filter((name) => name !== ''), 's', 's1', 's11', 's1:a', 's%', 'S1']
    for (const name of names) await append(store, name, 'a', message(name))
    for (const name of names) assert.deepEqual(await payloads(store, name), [message(name)])
    await store.log.delete('s1')
    await store.log.delete('%')
    for (const name of names.filter((name) => name !== 's1' && name !== '%')) {
      assert.deepEqual(await payloads(store, name), [message(name)])
    }
  })

  test('read: any text comes back as the same bytes', async (store) => {
    const texts = [
      '',
      ' ',
      '\u0000',
      'before\u0000after',
      '\u0001\u001f\u007f\u0080\u00ff',
      '\r\n\u2028\u2029\ufeff',
      'žluťoučký kůň',
      '日本語 العربية 👩‍👩‍👧‍👦 🏳️‍🌈',
      '\u{10ffff}\ufffd\uffff',
      '\\u0000 \\x00 %00 $1 ?1 :name',
      JSON.stringify({ lone: '\ud800', nul: '\u0000' }),
      '\ud800 a lone surrogate has no bytes of its own',
    ]
    for (const text of texts) await append(store, 's', 'a', text)
    const found = await payloads(store, 's', 'a')
    assert.deepEqual(
      found.map((text) => Buffer.from(text).toString('hex')),
      texts.map((text) => Buffer.from(text).toString('hex')),
    )
  })

  test('read: payloads of 5 and 10 MiB come back as the same bytes', async (store) => {
    const texts = [5, 10].map((mib) => 'žluť 🐎 "\\\n'.repeat(Math.ceil((mib * 2 ** 20) / 15)))
    for (const text of texts) assert.ok(Buffer.byteLength(text) >= 5 * 2 ** 20)
    const positions = await Promise.all(texts.map((text) => append(store, 's', 'a', text)))
    for (const [i, text] of texts.entries()) {
      const page = await store.log.read({ sessionId: 's', after: positions[i]! - 1, limit: 1 })
      assert.ok(page.events[0]?.payload === text, `${text.length} characters`)
    }
  })

  test('read: 10,000 events replay complete, in pages', async (store) => {
    for (const block of range(20)) {
      const events = range(500).map((i) => ({
        streamId: i % 4 === 0 ? 'wanted' : 'other',
        kind: 'message' as const,
        payload: message(block * 500 + i),
      }))
      await store.log.append({ sessionId: 's', events, ttl: MINUTE })
    }
    const wanted = await readAll(store, 's', { streamId: 'wanted', limit: 500 })
    assert.deepEqual(
      wanted.map(({ payload }) => payload),
      range(2500).map((i) => message(i * 4)),
    )
  })

  test('delete: removes the log; positions start again under another epoch', async (store) => {
    const event = { streamId: 'a', kind: 'message', payload: message(1) } as const
    const before = await store.log.append({ sessionId: 's', events: [event, event], ttl: MINUTE })
    await store.log.delete('s')
    await store.log.delete('s')
    assert.equal((await store.log.read({ sessionId: 's', after: 0, limit: 10 })).epoch, undefined)
    const after = await store.log.append({ sessionId: 's', events: [event], ttl: MINUTE })
    assert.notEqual(after.epoch, before.epoch)
    assert.deepEqual(await payloads(store, 's'), [message(1)])
  })

  if (corrupt) {
    test('read: a payload that cannot be decoded is left out and counted; all others arrive', async (store) => {
      const positions: number[] = []
      for (const i of range(5)) positions.push(await append(store, 's', 'a', message(i)))
      await corrupt('s', positions[2]!)
      const page = await store.log.read({ sessionId: 's', streamId: 'a', after: 0, limit: 10 })
      assert.deepEqual(
        page.events.map(({ payload }) => payload),
        [0, 1, 3, 4].map((i) => message(i)),
      )
      assert.equal(page.corrupt, 1)
    })

    test('read: pages without one event that can be decoded end nothing', async (store) => {
      const events = range(40).map((i) => ({ streamId: 'a', kind: 'message' as const, payload: message(i) }))
      const { positions, epoch } = await store.log.append({ sessionId: 's', events, ttl: MINUTE })
      const bad = range(40).filter((i) => (i >= 3 && i < 30) || i >= 36)
      for (const i of bad) await corrupt('s', positions[i]!)
      const good = range(40).filter((i) => !bad.includes(i))
      const query = { sessionId: 's', streamId: 'a', limit: 5 }
      const found: number[] = []
      let left = 0
      let pages = 0
      for (let after = 0; ; pages += 1) {
        assert.ok(pages < 50, 'it comes to an end')
        const page = await store.log.read({ ...query, after })
        found.push(...page.events.map(({ position }) => position))
        left += page.corrupt
        for (const { position } of page.events) assert.ok(position <= page.scanned)
        if (!page.more) break
        assert.ok(page.scanned > after, 'each page gets on')
        after = page.scanned
      }
      assert.deepEqual(
        found,
        good.map((i) => positions[i]),
      )
      assert.equal(left, bad.length)
      const gaps = new Set<GapReason>()
      const replayed: number[] = []
      const cursor = { streamId: 'a', position: 0, epoch }
      const onGap = (reason: GapReason) => void gaps.add(reason)
      for await (const { position } of replay(store.log, 's', cursor, { pageSize: 5, onGap })) {
        replayed.push(position)
      }
      assert.deepEqual([replayed, [...gaps]], [found, ['corrupt']])
    })
  }
}
