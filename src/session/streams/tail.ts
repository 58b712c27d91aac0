import { delay } from '../../clock.ts'
import { isPersistError } from '../../errors.ts'
import { gapFrame, KEEP_ALIVE_FRAME, messageFrame, primingFrame, retryFrame, type Sink } from '../../sse.ts'
import { formatEventId } from '../../store/event-id.ts'
import type { EventLog, GapReason, StoredEvent } from '../../store/port.ts'
import { replay } from '../../store/replay.ts'
import { isLast, type StreamRef, type Update } from './stream.ts'
import type { Subscriber } from './subscriber.ts'
import { step, type TailEvent, type TailState } from './tail-states.ts'

/** What all tails of a process have in common. */
export interface TailHost {
  readonly log: EventLog
  readonly retryInterval?: number | undefined
  readonly onGap?: (tail: Tail, reason: GapReason) => void
  readonly onDelivered?: (tail: Tail, position: number) => void
  readonly onError?: (tail: Tail, error: unknown) => void
}

export interface TailOptions {
  readonly host: TailHost
  readonly sessionId: string
  readonly stream: StreamRef
  /** The tail is over, whoever ended it. */
  readonly onClose: () => void
}

// Milliseconds between tries to read a log that cannot be read: 100, 200 … 2,000, and how often, about a minute. A client
// that was sent away meanwhile would be refused by every node alike, and clients come back a few times only.
const RETRY_LIMIT = 2000
const MAX_RETRIES = 30

// Enough for what a quick tool sends before its client's response is open.
const MAX_EARLY = 64
/** Messages that could not be stored and wait for a slow client; it is sent away before there are more. */
const MAX_UNSTORED = 1000

/**
 * One client's event stream: follows one stream of the log from a cursor. What is pushed is written straight on when
 * nothing can be missing before it; in every other case (a slow client, a gap, a resume) the log is read, which is the
 * truth. A slow client costs a cursor, not memory. What happens when is in `tail-states.ts`.
 *
 * Order: events are written in position order because pushes come in position order, and because while the log is
 * being read pushes are not written but only noted, to be read again. One reader writes at a time: a client that was
 * slow and is ready again gets a new one, and the one before finds that its turn is over.
 */
export class Tail implements Subscriber {
  readonly remote = false
  readonly sessionId: string
  readonly #host: TailHost
  readonly #stream: StreamRef
  #sink: Sink | undefined
  onClose: () => void
  /** Everything up to here is written. */
  #seen: number
  /** The last position written here, and not only named by the client; 0: nothing was. */
  #written = 0
  #epoch: string | undefined
  #early: Update[] = []
  #failures = 0
  #state: TailState
  /** Counts the readers: only the latest writes. */
  #reader = 0
  #unstored: { readonly frame: string; readonly last: boolean }[] = []
  #gapReported = false
  /** Frames on their way to the sink: those of one update go out in one write. */
  #out = ''
  #finite: boolean
  /** An id has been sent, or the client came with one. */
  resumable: boolean
  /** The response ends when everything up to `at` is written. */
  #cut: { readonly at: number; readonly retry: number | undefined } | undefined

  constructor({ host, sessionId, stream, onClose }: TailOptions) {
    this.sessionId = sessionId
    this.onClose = onClose
    this.#host = host
    this.#stream = stream
    this.#seen = stream.after
    this.#epoch = stream.epoch
    this.#finite = stream.finite === true
    this.resumable = stream.after > 0
    this.#state = stream.fresh === true ? 'fresh' : 'waiting'
    if (stream.opened) this.#early.push(stream.opened)
  }

  get streamId(): string {
    return this.#stream.streamId
  }

  /** The last position written to the client, or the one it came with. */
  get delivered(): number {
    return this.#seen
  }

  get live(): boolean {
    return this.#state === 'live' || this.#state === 'fresh'
  }

  get closed(): boolean {
    return this.#state === 'closed'
  }

  /** The client's response is open: write to it from now on. */
  start(sink: Sink): void {
    if (this.#sink || this.closed) return void sink.end()
    this.#sink = sink
    sink.onDrain = () => void this.#on('drained')
    if (this.#state === 'waiting') {
      this.#prime()
      this.#flush()
      sink.flush()
    }
    this.#on('started')
  }

  push(update: Update): void {
    // Should the store lose it before it is read here, nobody would end the stream a second time.
    if (isLast(update)) this.#finite = true
    if (this.#state === 'fresh') {
      if (this.#early.length < MAX_EARLY) this.#early.push(update)
      else this.#on('missed')
      return
    }
    this.#epoch ??= update.epoch
    const contiguous = update.before !== undefined && update.before <= this.#seen
    if (!contiguous || update.epoch !== this.#epoch) return void this.#on('missed')
    if (this.#on('pushed')) this.#writeUpdate(update)
  }

  /** The stream is open, though its record could not be stored. */
  opened(): void {
    if (this.#state === 'live') this.#sink!.flush()
  }

  /** A message that could not be stored: it goes out without an id, so that nobody resumes after it by mistake. */
  pushUnstored(payload: string, last: boolean): void {
    if (this.closed) return
    if (this.#unstored.length >= MAX_UNSTORED) return void this.cut()
    this.#unstored.push({ frame: messageFrame(payload), last })
    if (this.#state === 'live') this.#rest()
  }

  /** Something may have been missed: look into the log. */
  nudge(): void {
    this.#on('missed')
  }

  /** Nobody writes to the stream any more: it ends after what is stored. */
  endAfterStored(): void {
    this.#finite = true
    this.#on('missed')
  }

  /** Somebody writes to the stream (again). */
  goOn(): void {
    this.#finite = false
    this.#on('missed')
  }

  /** A client of this process can only be told to come again. */
  moved(retry: number): void {
    this.cut(retry)
  }

  keepAlive(): void {
    if (this.#state !== 'live' && this.#state !== 'reading' && this.#state !== 'stale') return
    this.#send(KEEP_ALIVE_FRAME)
    this.#flush()
  }

  /**
   * Ends the response but not the stream: the client will resume, after `retry` ms if that is given. A response that is
   * not open yet gets first what it takes to resume.
   */
  cut(retry?: number): void {
    if (!this.#sink) {
      this.#cut ??= { at: 0, retry }
      return
    }
    if (retry !== undefined && !this.closed) this.#send(retryFrame(retry))
    this.close()
  }

  /** The same, when everything up to `at` is written; or all that the log has of it. Waits for the response to be open. */
  cutAfter(at: number, retry?: number): void {
    this.#cut = { at, retry }
    if (this.#state !== 'live') return
    if (this.#seen >= at) this.#rest()
    else this.#on('missed')
  }

  close(): void {
    if (this.closed) return
    this.#state = 'closed'
    this.#early = []
    this.#unstored = []
    this.#sink?.end(this.#out)
    this.#out = ''
    this.onClose()
  }

  /** Takes the step that the table names, and does it. True: what was pushed is to be written. */
  #on(event: TailEvent): boolean {
    const { next, action } = step(this.#state, event)
    this.#state = next
    if (action === 'read') void this.#read()
    else if (action === 'begin') this.#begin()
    else if (action === 'rest') this.#rest()
    return action === 'write'
  }

  #begin(): void {
    const early = this.#early
    this.#early = []
    for (const update of early) this.push(update)
    if (this.#state === 'live') this.#rest()
  }

  #prime(): void {
    if (!this.#stream.priming || this.#epoch === undefined) return
    this.#send(primingFrame(this.#id(this.#seen, this.#epoch), this.#host.retryInterval))
  }

  async #read(): Promise<void> {
    const { sessionId, streamId } = this
    const { log, onError } = this.#host
    this.#reader += 1
    const reader = this.#reader
    const isOurs = () => reader === this.#reader && (this.#state === 'reading' || this.#state === 'stale')
    try {
      const cursor = { streamId, position: this.#seen, epoch: this.#epoch }
      for await (const event of replay(log, sessionId, cursor, { onGap: (...gap) => this.#gap(...gap) })) {
        if (!isOurs()) return
        if (event.epoch !== this.#epoch) {
          this.#epoch = event.epoch
          this.#seen = 0
          this.#written = 0
        }
        this.#write(event, event.epoch)
        this.#flush()
        if (!isOurs()) return
      }
      if (!isOurs()) return
      this.#failures = 0
      this.#on('read')
    } catch (error) {
      onError?.(this, error)
      if (isOurs()) this.#retryLater(error, isOurs)
    }
  }

  /** The store is away: the client keeps its connection. Other errors stay: it keeps its cursor and comes again. */
  #retryLater(error: unknown, isOurs: () => boolean): void {
    this.#failures += 1
    if (!isPersistError(error, 'STORE_UNAVAILABLE') || this.#failures > MAX_RETRIES) return void this.cut()
    // Still `reading`: what is pushed meanwhile is noted, to be read in its place.
    void delay(Math.min(50 * 2 ** this.#failures, RETRY_LIMIT)).then(() => {
      if (isOurs()) void this.#read()
    })
  }

  #writeUpdate(update: Update): void {
    for (const event of update.events) this.#write(event, update.epoch)
    this.#flush()
  }

  #write(event: StoredEvent, epoch: string): void {
    if (event.position <= this.#seen || this.closed) return
    const { kind, payload, position } = event
    this.#seen = position
    this.#written = position
    switch (kind) {
      case 'open':
        if (this.#stream.priming)
          this.#send(primingFrame(this.#id(position, epoch), this.#host.retryInterval))
        else this.#sink!.flush()
        return
      case 'message':
        this.#send(messageFrame(payload, this.#id(position, epoch)))
        this.#host.onDelivered?.(this, position)
        return
      case 'final':
        this.#send(messageFrame(payload, this.#id(position, epoch)))
        this.close()
        return
      case 'end':
        this.close()
        return
    }
  }

  /** The client can come back with it. */
  #id(position: number, epoch: string): string {
    this.resumable = true
    return formatEventId(this.sessionId, { streamId: this.streamId, position, epoch })
  }

  /** Everything that is known to be stored is written: what waited for that. */
  #rest(): void {
    for (const { frame, last } of this.#unstored.splice(0)) {
      this.#send(frame)
      if (last) return void this.close()
    }
    this.#flush()
    if (this.#cut) return void this.cut(this.#cut.retry)
    if (this.#finite && this.#state === 'live') this.close()
  }

  #send(frame: string): void {
    this.#out += frame
  }

  #flush(): void {
    if (this.#out === '' || this.closed) return
    const full = !this.#sink!.write(this.#out)
    this.#out = ''
    if (full) this.#on('full')
  }

  #gap(reason: GapReason, after: number): void {
    // Anybody can name a large number; but what was written here was given out, and never will be again.
    if (reason === 'lost') this.#seen = Math.max(after, this.#written)
    if (this.#gapReported) return
    this.#gapReported = true
    this.#host.onGap?.(this, reason)
    this.#send(gapFrame(reason))
    this.#flush()
  }
}
