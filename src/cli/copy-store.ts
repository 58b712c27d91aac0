import { isDeepStrictEqual } from 'node:util'
import { PersistError } from '../errors.ts'
import type { LogPage, Tombstone, Transfer } from '../store/port.ts'
import type { Store } from '../store/store.ts'
import { interrupted, stopped } from './interrupt.ts'

export interface CopyResult {
  /** Logs that were copied, read back and found the same, and how many of them have a session record. */
  readonly logs: number
  readonly sessions: number
  readonly events: number
  /** Events of the source that could not be decoded, and so not be copied. */
  readonly undecodable: number
  /** Sessions that the destination has in another epoch, a later generation, or terminated. */
  readonly leftAlone: number
  /** Sessions that read back otherwise than they were copied. */
  readonly unverified: number
  /** Sessions of an earlier copy that the source has terminated since, and which are now terminated here too. */
  readonly ended: number
}

/** Events in memory: so many of so many sessions. */
const PAGE = 100
const SESSIONS_AT_ONCE = 16

/**
 * Every log of one store, put into another and read back, page by page. Then what an earlier copy has brought and the
 * source has terminated since is terminated at the destination too.
 */
export async function copyStore(
  source: Store,
  destination: Store,
  onProgress: (result: CopyResult) => void,
): Promise<CopyResult> {
  const [from, to] = [transferOf(source), transferOf(destination)]
  const result = { logs: 0, sessions: 0, events: 0, undecodable: 0, leftAlone: 0, unverified: 0, ended: 0 }
  await forEach(from.ids(), async (sessionId) => {
    await copyLog(from, to, sessionId, result)
    onProgress(result)
  })
  // Last, so that what was terminated while it was copied is among them.
  await forEach(to.ids(), async (sessionId) => {
    const found = await from.take({ sessionId, after: 0, limit: 1 })
    if (found && 'terminatedUntil' in found) await bury(to, found, result)
    onProgress(result)
  })
  return result
}

async function forEach(ids: AsyncIterable<string>, task: (id: string) => Promise<void>): Promise<void> {
  const iterator = ids[Symbol.asyncIterator]()
  let failed = false
  const worker = async () => {
    while (!failed) {
      if (stopped()) throw interrupted()
      const { value: id, done } = await iterator.next()
      if (done) return
      await task(id)
    }
  }
  const workers = Array.from({ length: SESSIONS_AT_ONCE }, () =>
    worker().catch((error) => {
      failed = true
      throw error
    }),
  )
  // All have come to rest before the stores are closed.
  for (const outcome of await Promise.allSettled(workers)) {
    if (outcome.status === 'rejected') throw outcome.reason
  }
}

type Counts = { -readonly [Name in keyof CopyResult]: CopyResult[Name] }

async function copyLog(from: Transfer, to: Transfer, sessionId: string, result: Counts): Promise<void> {
  let after = 0
  let events = 0
  for (;;) {
    const page = await from.take({ sessionId, after, limit: PAGE })
    // It has ended meanwhile: there is nothing to resume.
    if (!page) return
    if ('terminatedUntil' in page) return bury(to, page, result)
    result.undecodable += page.corrupt
    if (!(await to.put(page))) {
      result.leftAlone += 1
      return
    }
    if (!(await isThere(to, page, after))) {
      result.unverified += 1
      return
    }
    events += page.events.length
    // A store that does not get on with a page must not keep us for ever.
    if (page.more && page.scanned > after) {
      after = page.scanned
      continue
    }
    result.logs += 1
    result.events += events
    if (page.session) result.sessions += 1
    return
  }
}

async function bury(to: Transfer, tombstone: Tombstone, result: Counts): Promise<void> {
  await to.put(tombstone)
  result.ended += 1
}

async function isThere(to: Transfer, page: LogPage, after: number): Promise<boolean> {
  const { sessionId, events, epoch } = page
  const until = events.at(-1)?.position ?? after
  const found = await to.take({ sessionId, after, limit: Math.max(1, events.length) })
  // Its time was over between writing and reading.
  if (!found) return page.expiresAt <= Date.now() + 1000
  // Somebody has ended it at the destination just now.
  if ('terminatedUntil' in found) return true
  const texts = (all: LogPage['events'], floor: number) =>
    all
      .filter(({ position }) => position > floor && position <= until)
      .map(({ position, streamId, kind, payload }) => [position, streamId, kind, payload])
  const same = isDeepStrictEqual(texts(found.events, found.floor), texts(events, found.floor))
  return same && found.epoch === epoch && (found.session !== null) === (page.session !== null)
}

function transferOf(store: Store): Transfer {
  if (store.transfer) return store.transfer
  throw new PersistError('INVALID_ARGUMENT', `A store of the backend ${store.backend} cannot be copied.`)
}
