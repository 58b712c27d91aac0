import { errorText, isPersistError } from '../../errors.ts'
import { FewMap } from '../../few.ts'
import type { Logger } from '../../logger.ts'
import type { EventKind, EventLog, NewEvent, StoredEvent } from '../../store/port.ts'
import { batchOf, errorResponse, isResponse, parseMessages } from '../protocol/json-rpc.ts'
import { Backlog } from './backlog.ts'
import { isLast, type Update } from './stream.ts'
import type { Subscriber } from './subscriber.ts'

const NONE: readonly Subscriber[] = []

// Milliseconds that the record of a call waits for the first message.
const OPEN_DELAY = 2

export interface SessionLogOptions {
  readonly log: EventLog
  readonly sessionId: string
  /** Undefined: appends are not fenced, because the session has no record in the store. */
  readonly generation: number | undefined
  /** The log's last position when this generation began. */
  readonly began: number
  /** Milliseconds. */
  readonly ttl: number
  readonly limit: number
  readonly onStoreError: 'deliver' | 'fail'
  readonly logger: Logger
  /** Another node owns the session now, or it is gone. */
  readonly onLost: () => void
}

/**
 * What the owner writes: each event is appended, and shown to the listeners when it is stored and not before. The owner is
 * the only writer of its generation and the store settles appends in the order of the calls, so that what is pushed
 * to a listener is in position order and `before` is exact.
 */
export class SessionLog {
  readonly #options: SessionLogOptions
  readonly #listeners = new FewMap<string, readonly Subscriber[]>()
  /** The last position written in each stream that is being written. */
  readonly #last = new FewMap<string, number>()
  readonly #held = new FewMap<string, { readonly event: NewEvent; readonly timer: NodeJS.Timeout }>()
  readonly #backlog: Backlog
  #epoch: string | undefined
  /**
   * No position beyond this was given out, of any stream: what was told, and one for each event that the store has not
   * answered for, or not well. It may come back without its last moments, and others may have read what it had then.
   */
  #highest: number
  /** Appends, in the order in which they were asked for. */
  #made = 0
  /** Events that the store was given. */
  #given = 0
  /** The append that was made last. */
  #latest: Promise<unknown> = Promise.resolve()
  #pending = 0

  constructor(options: SessionLogOptions) {
    this.#options = options
    const { sessionId, log, logger, began } = options
    this.#highest = began
    this.#backlog = new Backlog({
      sessionId,
      log,
      lastOf: (streamId) => this.#last.get(streamId) ?? began,
      store: (events) => this.#store(events, true),
      show: (events, epoch) => this.#show(events, epoch),
      isPassing: (error) => !isLost(error),
      onGivenUp: (streamId, events, error) =>
        logger.error(
          { sessionId, streamId, events, error: errorText(error) },
          'events are lost: they could not be stored',
        ),
    })
  }

  /** Appends that the store has not settled yet: whoever produces them may want to wait. */
  get pending(): number {
    return this.#pending
  }

  /** A stream that begins now, so that its first event is known to be the first. */
  begin(streamId: string): void {
    this.#last.set(streamId, 0)
  }

  /** Is something of it still to be stored, which could not be until now? Then who reads the log has not read all of it. */
  waiting(streamId: string): boolean {
    return this.#backlog.has(streamId)
  }

  forget(streamId: string): void {
    this.#last.delete(streamId)
  }

  /**
   * The record that a call begins. It waits a moment for the call's first message, to be stored in one step with it; or for its
   * answer, which needs no record: a quick call is one event. Nothing is shown before that is stored.
   */
  open(streamId: string, payload: string): void {
    const timer = setTimeout(() => void this.#release(streamId), OPEN_DELAY)
    this.#held.set(streamId, { event: { streamId, kind: 'open', payload }, timer })
  }

  /**
   * The record of a call of which nothing else is stored yet, for a listener that comes after it. Undefined: it could
   * not be stored.
   */
  opened(streamId: string): Update | undefined {
    const position = this.#last.get(streamId)
    if (!position || this.#epoch === undefined) return undefined
    const event = { streamId, kind: 'open', payload: '', position } as const
    return { streamId, before: 0, events: [event], epoch: this.#epoch }
  }

  /** Never rejects: what cannot be stored is dealt with here, as `onStoreError` says. False: it is not stored (yet). */
  append(streamId: string, kind: EventKind, payload = '', touch = true): Promise<boolean> {
    const event = { streamId, kind, payload }
    const held = this.#take(streamId)
    // A record is for whoever finds the call open. Of one that is answered already its listeners are told, and nobody else.
    if (held && kind === 'final') return this.#append([event], touch, held)
    return this.#append(held ? [held, event] : [event], touch)
  }

  /** Stores the records that still wait; nothing is tried again from now on. */
  async close(): Promise<void> {
    this.#backlog.close()
    await this.flush()
  }

  /** Settles when all that was appended until now is stored, the records that still wait among it. Never rejects. */
  async flush(): Promise<void> {
    await Promise.all(this.#held.keys().map((streamId) => this.#release(streamId)))
    await this.#latest.catch(() => {})
  }

  attach(listener: Subscriber): void {
    this.#listeners.set(listener.streamId, [...this.listeners(listener.streamId), listener])
  }

  detach(listener: Subscriber): void {
    const left = this.listeners(listener.streamId).filter((each) => each !== listener)
    if (left.length > 0) this.#listeners.set(listener.streamId, left)
    else this.#listeners.delete(listener.streamId)
  }

  listeners(streamId: string): readonly Subscriber[] {
    return this.#listeners.get(streamId) ?? NONE
  }

  allListeners(): readonly Subscriber[] {
    return this.#listeners.values().flat()
  }

  /** The app asks the clients of a stream to come again, after what it has said until now. */
  async cut(streamId: string, retry: number | undefined): Promise<void> {
    await this.#release(streamId)
    await this.#latest.catch(() => {})
    const at = this.#last.get(streamId)
    for (const listener of this.listeners(streamId)) {
      if (at === undefined) listener.cut(retry)
      else listener.cutAfter(at, retry)
    }
  }

  /** Does something wait for the store that nobody else has? */
  get unstored(): boolean {
    return !this.#backlog.isEmpty
  }

  get followed(): boolean {
    return this.#listeners.size > 0
  }

  async #release(streamId: string): Promise<void> {
    const held = this.#take(streamId)
    if (held) await this.#append([held], true)
  }

  #take(streamId: string): NewEvent | undefined {
    const held = this.#held.get(streamId)
    if (!held) return undefined
    clearTimeout(held.timer)
    this.#held.delete(streamId)
    return held.event
  }

  /** `events` are of one stream; `told`: what comes before them, and is not stored. */
  async #append(events: readonly NewEvent[], touch: boolean, told?: NewEvent): Promise<boolean> {
    const { streamId } = events[0]!
    this.#pending += 1
    this.#made += 1
    const order = this.#made
    try {
      const waits = this.#backlog.has(streamId)
      if (waits) this.#backlog.add(events, order, undefined)
      else await this.#store(events, touch, told)
      return !waits
    } catch (error) {
      this.#failed(events, order, error)
      return false
    } finally {
      this.#pending -= 1
    }
  }

  async #store(events: readonly NewEvent[], touch: boolean, told?: NewEvent): Promise<void> {
    const { log, sessionId, generation, ttl, limit } = this.#options
    const fence = generation === undefined ? {} : { generation }
    // What is not stored has a position before the others: whoever comes back with that gets all of them.
    const beyond = this.#highest + (told ? 1 : 0)
    this.#highest = beyond + events.length
    this.#given += events.length + (told ? 1 : 0)
    const given = this.#given
    const appending = log.append({ sessionId, events, ttl, limit, touch, beyond, ...fence })
    this.#latest = appending
    const { positions, epoch } = await appending
    if (epoch !== this.#epoch) this.#highest = 0
    this.#highest = Math.max(this.#highest, positions.at(-1)! + this.#given - given)
    const stored = events.map((event, i) => ({ ...event, position: positions[i]! }))
    this.#show(told ? [{ ...told, position: positions[0]! - 1 }, ...stored] : stored, epoch)
  }

  /** `events` are of one stream, and the next that are stored in it. */
  #show(events: readonly StoredEvent[], epoch: string): void {
    const { streamId, position } = events.at(-1)!
    this.#epoch = epoch
    const update: Update = { streamId, before: this.#last.get(streamId), events, epoch }
    if (isLast(update)) this.#last.delete(streamId)
    else this.#last.set(streamId, position)
    for (const listener of this.listeners(streamId)) listener.push(update)
  }

  #failed(events: readonly NewEvent[], order: number, error: unknown): void {
    const { streamId } = events[0]!
    const { sessionId, logger, onStoreError, onLost } = this.#options
    if (isLost(error)) {
      const facts = { sessionId, error: errorText(error) }
      logger.warn(facts, 'an event was refused: this node does not own the session')
      onLost()
      return
    }
    const facts = { operation: 'append', sessionId, streamId, error: errorText(error) }
    logger.error(facts, 'an event could not be stored')
    const listeners = this.listeners(streamId)
    // Somebody cannot hear it now, or nobody is there to: whoever comes finds it in the log or nowhere, and gets it once.
    if (listeners.length === 0 || listeners.some(({ live }) => !live))
      return void this.#backlog.add(events, order, error)
    for (const { kind, payload } of events) {
      const shown = onStoreError === 'fail' ? asFailure(payload, streamId) : payload
      for (const listener of listeners) {
        if (kind === 'final' || kind === 'message') listener.pushUnstored(shown, kind === 'final')
        else if (kind === 'end') listener.close()
        else listener.opened()
      }
    }
  }
}

function isLost(error: unknown): boolean {
  return isPersistError(error, 'FENCED') || isPersistError(error, 'SESSION_GONE')
}

/** With `onStoreError: 'fail'` an answer that is not safe in the store becomes an error; other messages stay. */
function asFailure(payload: string, streamId: string): string {
  const answers = parseMessages(payload).filter(isResponse)
  if (answers.length === 0) return payload
  const failures = answers.map(({ id }) =>
    errorResponse(id, -32603, 'The answer could not be stored and is withheld.', { requestId: streamId }),
  )
  return batchOf(failures)
}
