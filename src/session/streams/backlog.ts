import { delay } from '../../clock.ts'
import type { EventLog, NewEvent, StoredEvent } from '../../store/port.ts'

export interface BacklogOptions {
  readonly sessionId: string
  readonly log: EventLog
  /** The last position that this owner knows to be stored in a stream; what it has written otherwise lies beyond. */
  readonly lastOf: (streamId: string) => number
  /** Stores and shows them; rejects when the store does. */
  readonly store: (events: readonly NewEvent[]) => Promise<void>
  /** Shows what turns out to be stored already. */
  readonly show: (events: readonly StoredEvent[], epoch: string) => void
  /** Is it worth trying again after this error? */
  readonly isPassing: (error: unknown) => boolean
  readonly onGivenUp: (streamId: string, events: number, error: unknown) => void
}

/** An event that waits, and when it was said. */
interface Waiting {
  readonly event: NewEvent
  readonly order: number
}

/** Events of one stream that may wait for the store. */
const MAX_EVENTS = 1000
/** Waits between tries, in ms: 100, 200, 400 … 2,000; at the most this many tries, about ten minutes. */
const MAX_TRIES = 300

/**
 * Events that could not be stored and whose client is served by another node: that node reads them from the log and
 * nowhere else, so they are kept here, in order, until the store is back.
 */
export class Backlog {
  readonly #options: BacklogOptions
  readonly #waiting = new Map<string, Waiting[]>()
  #closed = false

  constructor(options: BacklogOptions) {
    this.#options = options
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  has(streamId: string): boolean {
    return this.#waiting.has(streamId)
  }

  /**
   * Events of one stream. They wait in the order in which they were said: of one that is on its way to the store it may be known
   * later that it did not get there than of one that was said after it.
   */
  add(events: readonly NewEvent[], order: number, error: unknown): void {
    const { streamId } = events[0]!
    const waiting = this.#waiting.get(streamId)
    const added = events.map((event) => ({ event, order }))
    if (!waiting) {
      this.#waiting.set(streamId, added)
      void this.#retry(streamId)
    } else if (waiting.length + events.length <= MAX_EVENTS) {
      const later = waiting.findIndex((each) => each.order > order)
      waiting.splice(later === -1 ? waiting.length : later, 0, ...added)
    } else {
      this.#options.onGivenUp(streamId, events.length, error)
    }
  }

  close(): void {
    this.#closed = true
  }

  async #retry(streamId: string): Promise<void> {
    const { isPassing, onGivenUp } = this.#options
    const waiting = this.#waiting.get(streamId)!
    let error: unknown
    for (let attempt = 0; attempt < MAX_TRIES && waiting.length > 0 && !this.#closed; attempt += 1) {
      await delay(Math.min(100 * 2 ** attempt, 2000))
      try {
        await this.#skipStored(streamId, waiting)
        const tried = [...waiting]
        if (tried.length > 0) await this.#options.store(tried.map(({ event }) => event))
        waiting.splice(0, tried.length)
      } catch (reason) {
        error = reason
        if (!isPassing(reason)) break
      }
    }
    this.#waiting.delete(streamId)
    if (waiting.length > 0) onGivenUp(streamId, waiting.length, error)
  }

  /** A store that did not answer in time may have stored them all the same. This owner is the stream's only writer. */
  async #skipStored(streamId: string, waiting: Waiting[]): Promise<void> {
    const { log, sessionId, lastOf, show } = this.#options
    let events: readonly StoredEvent[] = []
    for (let after = lastOf(streamId); ; ) {
      const page = await log.read({ sessionId, streamId, after, limit: MAX_EVENTS })
      events = [...events, ...page.events].slice(-MAX_EVENTS)
      // Before them may stand what was told without an id to those who were there, and turns out to be stored as well.
      const stored = page.more ? [] : endOf(events, waiting)
      if (stored.length > 0) {
        waiting.splice(0, stored.length)
        // Nobody has heard of them, and nothing may come after them that would tell.
        show(stored, page.epoch!)
      }
      if (!page.more || page.scanned <= after) return
      after = page.scanned
    }
  }
}

/** The end of what is stored with which that begins which waits. */
function endOf(stored: readonly StoredEvent[], waiting: readonly Waiting[]): readonly StoredEvent[] {
  let end = stored.slice(-waiting.length)
  while (!end.every((event, i) => same(event, waiting[i]!.event))) end = end.slice(1)
  return end
}

function same(stored: NewEvent, waiting: NewEvent): boolean {
  return stored.kind === waiting.kind && stored.payload === waiting.payload
}
