import { delay } from '../../clock.ts'
import { isPersistError } from '../../errors.ts'
import { KEEP_ALIVE_FRAME, messageFrame, primingFrame, retryFrame, type Sink } from '../../sse.ts'
import { formatEventId } from '../../store/event-id.ts'
import { replay } from '../../store/replay.ts'
import type { EventLog, GapReason, StoredEvent } from '../../store/store.ts'
import type { Listener } from './subscriber.ts'

/** Events just stored in one stream; `before` is the stream's position before them, undefined when nobody knows. */
export interface Update {
  readonly streamId: string
  readonly before: number | undefined
  readonly events: readonly StoredEvent[]
  readonly epoch: string
}

/** Does the stream end with these? */
export function isLast({ events }: Update): boolean {
  const last = events.at(-1)?.kind
  return last === 'final' || last === 'end'
}

export interface TailOptions {
  readonly log: EventLog
  readonly sessionId: string
  readonly streamId: string
  /** The client has everything up to here. */
  readonly after: number
  /** The epoch `after` belongs to; undefined: whatever it is now. */
  readonly epoch?: string | undefined
  /** The stream begins now: nothing can be in the log that is not pushed. */
  readonly fresh?: boolean
  /** Close after what is stored now: nobody writes to the stream any more. */
  readonly finite?: boolean
  /** Send priming events. */
  readonly priming: boolean
  readonly retryInterval?: number | undefined
  readonly onGap?: (reason: GapReason) => void
  readonly onDelivered?: (position: number) => void
  readonly onError?: (error: unknown) => void
  /** The tail is over, whoever ended it. */
  readonly onClose: () => void
}

// Milliseconds between tries to read a log that cannot be read: 100, 200 … 2,000, and how often, about a minute. A client
// that was sent away meanwhile would be refused by every node alike, and clients come back a few times only.
const RETRY_LIMIT = 2000
const MAX_RETRIES = 30

// Enough for what a quick tool sends before its client's response is open.
const MAX_EARLY = 64

/**
 * One client's event stream: follows one stream of the log from a cursor. What is pushed is written straight on when
 * nothing can be missing before it; in every other case (a slow client, a gap, a resume) the log is read, which is the
 * truth. A slow client costs a cursor, not memory.
 *
 * Order: events are written in position order because pushes come in position order, and because while the log is
 * being read pushes are not written but only noted, to be read again.
 */
export class Tail implements Listener {
  readonly remote = false
  readonly #options: TailOptions
  #sink: Sink | undefined
  onClose: () => void
  /** Everything up to here is written. */
  #seen: number
  #epoch: string | undefined
  #early: Update[] = []
  #failures = 0
  #state: 'waiting' | 'live' | 'reading' | 'closed' = 'waiting'
  #behind: boolean
  #blocked = false
  #unstored: string[] = []
  #gapReported = false
  /** Frames on their way to the sink: those of one update go out in one write. */
  #out = ''
  #finite: boolean
  /** An id has been sent, or the client came with one. */
  resumable: boolean

  constructor(options: TailOptions) {
    this.#options = options
    this.onClose = options.onClose
    this.#seen = options.after
    this.#epoch = options.epoch
    this.#behind = options.fresh !== true
    this.#finite = options.finite === true
    this.resumable = options.after > 0
  }

  get streamId(): string {
    return this.#options.streamId
  }

  /** The last position written to the client, or the one it came with. */
  get delivered(): number {
    return this.#seen
  }

  get closed(): boolean {
    return this.#state === 'closed'
  }

  /** Comes before all that was pushed until now; only before `start`. */
  begin(update: Update): void {
    this.#early.unshift(update)
  }

  /** The client's response is open: write to it from now on. */
  start(sink: Sink): void {
    if (this.#state !== 'waiting') {
      sink.end()
      return
    }
    this.#sink = sink
    sink.onDrain = () => {
      this.#blocked = false
      if (this.#behind) this.#read()
    }
    this.#state = 'live'
    if (this.#behind) {
      this.#prime()
      this.#flush()
      sink.flush()
    }
    const early = this.#early
    this.#early = []
    if (this.#behind) {
      this.#read()
    } else {
      for (const update of early) this.push(update)
      this.#writeUnstored()
    }
  }

  push(update: Update): void {
    if (this.#state === 'closed') return
    if (this.#state === 'waiting') {
      if (this.#early.length < MAX_EARLY) this.#early.push(update)
      else this.#behind = true
      return
    }
    this.#epoch ??= update.epoch
    const contiguous = update.before !== undefined && update.before <= this.#seen
    if (this.#state === 'reading' || this.#blocked || !contiguous || update.epoch !== this.#epoch) {
      this.nudge()
      return
    }
    for (const event of update.events) this.#write(event, update.epoch)
    this.#flush()
  }

  /** The stream is open, though its record could not be stored. */
  opened(): void {
    if (this.#state === 'live') this.#sink!.flush()
  }

  /** A message that could not be stored: it goes out without an id, so that nobody resumes after it by mistake. */
  pushUnstored(payload: string, last: boolean): void {
    if (this.#state === 'closed') return
    this.#unstored.push(messageFrame(payload))
    if (last) this.#unstored.push('')
    if (this.#state === 'live') this.#writeUnstored()
  }

  /** Something may have been missed: look into the log. */
  nudge(): void {
    this.#behind = true
    if (this.#state === 'live' && !this.#blocked) this.#read()
  }

  /** From now on somebody writes to the stream (again), or nobody does any more. */
  set finite(finite: boolean) {
    this.#finite = finite
    this.nudge()
  }

  /** A client of this process can only be told to come again. */
  moved(retry: number): void {
    this.cut(retry)
  }

  keepAlive(): void {
    if (this.#state === 'waiting' || this.#state === 'closed' || this.#blocked) return
    this.#send(KEEP_ALIVE_FRAME)
    this.#flush()
  }

  /** Ends the response but not the stream: the client will resume, after `retry` ms if that is given. */
  cut(retry?: number): void {
    if (retry !== undefined && this.#sink && this.#state !== 'closed') this.#send(retryFrame(retry))
    this.close()
  }

  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#early = []
    this.#sink?.end(this.#out)
    this.#out = ''
    this.onClose()
  }

  #prime(): void {
    const { priming, sessionId, streamId, retryInterval } = this.#options
    if (!priming || this.#epoch === undefined) return
    this.resumable = true
    const id = formatEventId(sessionId, { streamId, position: this.#seen, epoch: this.#epoch })
    this.#send(primingFrame(id, retryInterval))
  }

  async #read(): Promise<void> {
    const { log, sessionId, streamId, onError } = this.#options
    this.#state = 'reading'
    try {
      while (this.#behind && !this.#blocked && this.#isReading()) {
        this.#behind = false
        const cursor = { streamId, position: this.#seen, epoch: this.#epoch }
        for await (const event of replay(log, sessionId, cursor, { onGap: (reason) => this.#gap(reason) })) {
          if (!this.#isReading()) return
          if (event.epoch !== this.#epoch) {
            this.#epoch = event.epoch
            this.#seen = 0
          }
          this.#write(event, event.epoch)
          this.#flush()
          if (this.#blocked) {
            this.#behind = true
            break
          }
        }
        this.#failures = 0
      }
    } catch (error) {
      onError?.(error)
      if (this.#isReading()) this.#retryLater(error)
      return
    }
    if (!this.#isReading()) return
    this.#state = 'live'
    this.#writeUnstored()
    if (this.#finite && !this.#behind) this.close()
  }

  /** The store is away: the client keeps its connection. Other errors stay: it keeps its cursor and comes again. */
  #retryLater(error: unknown): void {
    this.#behind = true
    this.#failures += 1
    if (!isPersistError(error, 'STORE_UNAVAILABLE') || this.#failures > MAX_RETRIES) {
      this.cut()
      return
    }
    // Still `reading`: what is pushed meanwhile is noted, to be read in its place.
    void delay(Math.min(50 * 2 ** this.#failures, RETRY_LIMIT)).then(() => {
      if (this.#isReading()) void this.#read()
    })
  }

  #isReading(): boolean {
    return this.#state === 'reading'
  }

  #write(event: StoredEvent, epoch: string): void {
    if (event.position <= this.#seen || this.#state === 'closed') return
    const { sessionId, streamId, priming, retryInterval, onDelivered } = this.#options
    this.#seen = event.position
    const id = () => {
      this.resumable = true
      return formatEventId(sessionId, { streamId, position: event.position, epoch })
    }
    switch (event.kind) {
      case 'open':
        if (priming) this.#send(primingFrame(id(), retryInterval))
        else this.#sink!.flush()
        return
      case 'message':
        this.#send(messageFrame(event.payload, id()))
        onDelivered?.(event.position)
        return
      case 'final':
        this.#send(messageFrame(event.payload, id()))
        this.close()
        return
      case 'end':
        this.close()
        return
    }
  }

  #writeUnstored(): void {
    for (const frame of this.#unstored.splice(0)) {
      if (frame === '') this.close()
      else this.#send(frame)
    }
    this.#flush()
  }

  #send(frame: string): void {
    this.#out += frame
  }

  #flush(): void {
    if (this.#out === '' || this.#state === 'closed') return
    if (!this.#sink!.write(this.#out)) this.#blocked = true
    this.#out = ''
  }

  #gap(reason: GapReason): void {
    if (this.#gapReported) return
    this.#gapReported = true
    this.#options.onGap?.(reason)
  }
}
