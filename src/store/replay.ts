import { PersistError } from '../errors.ts'
import type { Cursor } from './event-id.ts'
import type { EventLog, GapReason, StoredEvent } from './port.ts'

const FIRST_PAGE = 32

export interface ReplayOptions {
  /** Events fetched at a time: the bound on memory. Default 500. */
  readonly pageSize?: number
  /** What is missing is told before the rest is delivered, which begins after `after`. */
  readonly onGap?: (reason: GapReason, after: number) => void
}

/** A cursor whose epoch may be unknown: then the log's own is taken. */
export type ResumePoint = Omit<Cursor, 'epoch'> & { readonly epoch: string | undefined }

/**
 * The stored events of one stream after a cursor, in order: finite, one page in memory at a time, nothing fetched
 * before the consumer asks. What is missing is reported, and the rest is delivered.
 */
export async function* replay(
  log: EventLog,
  sessionId: string,
  cursor: ResumePoint,
  { pageSize = 500, onGap }: ReplayOptions = {},
): AsyncGenerator<StoredEvent & { readonly epoch: string }> {
  const { streamId } = cursor
  let after = cursor.position
  // The first page is short, so that a client does not wait for five hundred events to see one.
  let limit = Math.min(FIRST_PAGE, pageSize)
  let epoch: string | undefined = cursor.epoch
  for (;;) {
    const page = await log.read({ sessionId, streamId, after, limit })
    limit = pageSize
    if (page.epoch === undefined) {
      if (epoch !== undefined) onGap?.('expired-or-trimmed', after)
      return
    }
    epoch ??= page.epoch
    if (page.epoch !== epoch) {
      // The log was lost and begun anew: its positions mean nothing to this cursor, all it holds is news.
      onGap?.('store-replaced', 0)
      epoch = page.epoch
      if (after > 0) {
        after = 0
        continue
      }
    }
    if (after > page.last) {
      // The store has lost what this client has seen. Waiting for positions to pass its cursor would pass over what comes
      // meanwhile. The epoch stays: anybody can write a large number.
      onGap?.('lost', page.last)
      after = page.last
      continue
    }
    if (page.floor > after) onGap?.('expired-or-trimmed', after)
    if (page.corrupt > 0) onGap?.('corrupt', after)
    for (const event of page.events) yield { ...event, epoch }
    if (!page.more) return
    if (page.scanned <= after) throw stuck(sessionId, after)
    // Not from the last event: a whole page may have none that can be decoded.
    after = page.scanned
  }
}

function stuck(sessionId: string, after: number): PersistError {
  const facts = `The log of session ${sessionId} has more after position ${after}`
  return new PersistError('STORE_CORRUPT', `${facts}, and the store does not get beyond it; report this.`)
}
