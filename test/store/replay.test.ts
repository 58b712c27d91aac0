import { expect, onTestFinished, test } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { Tail } from '../../src/session/streams/tail.ts'
import type { EventLog, GapReason } from '../../src/store/port.ts'
import { replay } from '../../src/store/replay.ts'
import { until } from '../support/wait.ts'

const message = (n: number) => ({ streamId: 'a', kind: 'message', payload: `{"n":${n}}` }) as const

async function logOf(count: number): Promise<{ log: EventLog; epoch: string; last: number }> {
  const store = new MemoryEventStore()
  onTestFinished(() => store.close())
  const events = Array.from({ length: count }, (_, n) => message(n))
  const { epoch, positions } = await store.log.append({ sessionId: 's', events, ttl: 60_000 })
  return { log: store.log, epoch, last: positions.at(-1)! }
}

test('a store that does not get beyond a page is an error, not a loop', async () => {
  const { log, epoch } = await logOf(10)
  const stuck: EventLog = {
    append: (append) => log.append(append),
    delete: (id) => log.delete(id),
    read: async (query) => ({ ...(await log.read(query)), events: [], more: true, scanned: query.after }),
  }
  const events = replay(stuck, 's', { streamId: 'a', position: 0, epoch })
  await expect(events.next()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
})

test('beyond the end: the gap is told with the end of what is known, whatever epoch the cursor is of', async () => {
  const { log, epoch, last } = await logOf(5)
  for (const of of [epoch, undefined]) {
    const gaps: [GapReason, number][] = []
    const cursor = { streamId: 'a', position: last + 1000, epoch: of }
    for await (const _ of replay(log, 's', cursor, { onGap: (...gap) => gaps.push(gap) }))
      expect.unreachable()
    expect(gaps).toEqual([['lost', last]])
  }
})

test('a client whose last event the store has lost is told so, and gets what comes from then on', async () => {
  const { log, epoch, last } = await logOf(5)
  let written = ''
  const gaps: GapReason[] = []
  const tail = new Tail({
    host: { log, onGap: (_, reason) => gaps.push(reason) },
    sessionId: 's',
    stream: { streamId: 'a', after: last + 1_000_000, epoch, priming: false },
    onClose: () => {},
  })
  onTestFinished(() => tail.close())
  tail.start({
    write(text) {
      written += text
      return true
    },
    end() {},
    flush() {},
    onDrain: undefined,
  })
  await until('the gap is told', () => written.includes(': gap lost\n\n'))
  for (const n of [5, 6]) {
    const { positions } = await log.append({ sessionId: 's', events: [message(n)], ttl: 60_000 })
    const position = positions[0]!
    tail.push({ streamId: 'a', before: position - 1, events: [{ ...message(n), position }], epoch })
  }
  await until('what is new arrives', () => written.includes('{"n":6}'))
  expect([...written.matchAll(/"n":(\d+)/g)].map(([, n]) => n)).toEqual(['5', '6'])
  expect(gaps).toEqual(['lost'])
})
