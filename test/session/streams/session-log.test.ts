import { expect, test, vi } from 'vitest'
import { PersistError } from '../../../src/errors.ts'
import { SessionLog } from '../../../src/session/streams/session-log.ts'
import type { Append, EventLog } from '../../../src/store/port.ts'

/** A store that answers when it is told to. */
class SlowLog implements EventLog {
  readonly appends: { readonly append: Append; readonly answer: (last: number | Error) => void }[] = []

  append(append: Append) {
    return new Promise<{ positions: number[]; epoch: string }>((resolve, reject) => {
      const answer = (last: number | Error) => {
        if (last instanceof Error) return reject(last)
        resolve({ positions: append.events.map((_, i) => last - append.events.length + 1 + i), epoch: 'e' })
      }
      this.appends.push({ append, answer })
    })
  }

  readonly reads: number[] = []

  async read({ after }: { readonly after: number }) {
    this.reads.push(after)
    return { events: [], more: false, epoch: 'e', floor: 0, last: 0, corrupt: 0, scanned: 0 }
  }

  async delete() {}
}

function sessionLog(log: EventLog, began = 0): SessionLog {
  const logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
  const settings = {
    generation: 1,
    began,
    ttl: 60_000,
    limit: 1000,
    onStoreError: 'deliver',
    logger,
  } as const
  return new SessionLog({ ...settings, log, sessionId: 'x', onLost: () => {} })
}

test('an append goes on beyond those that are under way: the store may come back without them', async () => {
  const store = new SlowLog()
  const log = sessionLog(store)
  const first = log.append('a', 'message', '1')
  store.appends[0]!.answer(1_000)
  await first
  void log.append('a', 'message', '2')
  void log.append('b', 'message', '3')
  void log.append('a', 'message', '4')
  expect(store.appends.map(({ append }) => append.beyond)).toEqual([0, 1_000, 1_001, 1_002])
})

test('and beyond those that failed: they may be stored, and others may have read them', async () => {
  const store = new SlowLog()
  const log = sessionLog(store)
  const first = log.append('a', 'message', '1')
  store.appends[0]!.answer(new PersistError('STORE_UNAVAILABLE', 'The store is away.'))
  expect(await first).toBe(false)
  void log.append('b', 'message', '2')
  expect(store.appends[1]!.append.beyond).toBe(1)
  store.appends[1]!.answer(2)
  await log.close()
})

test('what a claim has numbered far ahead is known with the first answer, for what was under way as well', async () => {
  const store = new SlowLog()
  const log = sessionLog(store)
  const first = log.append('a', 'message', '1')
  void log.append('a', 'message', '2')
  store.appends[0]!.answer(5_000_000)
  await first
  void log.append('a', 'message', '3')
  expect(store.appends[2]!.append.beyond).toBe(5_000_001)
})

test('what waits behind something that is not stored is not stored either', async () => {
  const store = new SlowLog()
  const log = sessionLog(store)
  const first = log.append('a', 'open')
  store.appends[0]!.answer(new PersistError('STORE_UNAVAILABLE', 'The store is away.'))
  expect([await first, await log.append('a', 'open')]).toEqual([false, false])
  await log.close()
})

test('the first append of a generation knows how far the log was when that began', async () => {
  const store = new SlowLog()
  const log = sessionLog(store, 5_000)
  void log.append('a', 'message', '1')
  void log.append('a', 'message', '2')
  expect(store.appends.map(({ append }) => append.beyond)).toEqual([5_000, 5_001])
})

test('what its owner has stored of a stream that another one began is looked for where that generation begins', async () => {
  vi.useFakeTimers()
  const store = new SlowLog()
  const log = sessionLog(store, 5_000)
  const failed = log.append('a', 'message', '1')
  store.appends[0]!.answer(new PersistError('STORE_UNAVAILABLE', 'The answer was lost.'))
  await failed
  await vi.advanceTimersByTimeAsync(200)
  expect(store.reads).toEqual([5_000])
  store.appends[1]!.answer(5_001)
  await log.close()
  vi.useRealTimers()
})
