import type { App, AppRequest, HeaderPairs } from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import { Stop } from '../../stop.ts'
import { type Cursor, parseEventId } from '../../store/event-id.ts'
import type { EventLog, SessionState } from '../../store/store.ts'
import type { StreamRef } from '../cluster/letters.ts'
import type { WakeUp } from '../cluster/wake-ups.ts'
import { type Answer, refuse, relayWhole, streamHeaders, withCors } from '../protocol/answer.ts'
import {
  isNotification,
  isRequest,
  type Message,
  parseMessage,
  type Request,
  toMessages,
} from '../protocol/json-rpc.ts'
import { primes } from '../protocol/priming.ts'
import type { RemoteTail } from '../streams/remote-subscriber.ts'
import { SessionLog } from '../streams/session-log.ts'
import type { Tail } from '../streams/tail.ts'
import { Calls } from './calls.ts'
import type { LocalApp } from './local-app.ts'
import { RequestIds } from './request-ids.ts'
import { changesState, stateAfter } from './session-state.ts'
import { openTap } from './standalone-stream.ts'
import { Audience, STANDALONE } from './subscribers.ts'

// Appends under way before the app is held back.
const MAX_PENDING = 256

export interface LiveSessionOptions {
  readonly id: string
  readonly principal: string | null
  readonly generation: number
  readonly state: SessionState
  /** The last standalone position delivered to the client. */
  readonly delivered: number
  readonly app: App
  readonly local: LocalApp
  readonly log: EventLog
  readonly settings: Settings
  /** Stores a new state; false: this node does not own the session any more. */
  readonly saveState: (state: SessionState) => Promise<boolean>
  /** A client's stream in this process. */
  readonly newTail: (sessionId: string, stream: StreamRef, onClose: () => void) => Tail
  /** The last standalone position delivered to the client anywhere, as far as the store knows. */
  readonly readDelivered: () => Promise<number>
  readonly onUse: () => void
  readonly onLost: () => void
  /** The app, or a connection to it, is gone; with a call that nobody answers any more. Settles when that is. Never rejects. */
  readonly onBroken: (streamId?: string) => Promise<void>
  /** The client has ended the session, and the app agreed. Settles before the client learns it. */
  readonly onTerminated: () => Promise<void>
  /** Nothing is going on at the moment. */
  readonly onQuiet: () => void
}

/** Who listens, at which other node, and how to tell that node. */
export interface RemoteListener {
  readonly nodeId: string
  readonly call: string
  readonly send: (wakeUp: WakeUp) => void
  /** Told when it begins to follow a stream, and when that is over. */
  readonly onFollow: (tail: RemoteTail) => void
  readonly onLeft: (tail: RemoteTail) => void
}

export interface Handling {
  /** Where the answer goes in the log, if it is a stream. */
  readonly streamId: string
  /** The request came from another node. */
  readonly remote?: RemoteListener
  /** It may have been made before, at an owner that is gone now. */
  readonly again?: boolean
}

export type OwnerAnswer =
  | Answer
  | { readonly status: number; readonly headers: HeaderPairs; readonly stream: StreamRef }

/** One session running in this process: its calls, its standalone stream, and the clients that listen here. */
export class LiveSession {
  readonly #options: LiveSessionOptions
  readonly #log: SessionLog
  readonly #ids: RequestIds
  readonly #calls: Calls
  readonly #stop = new Stop()
  #state: SessionState
  readonly audience: Audience
  /** Monotonic ms. */
  lastUsed = monotonicNow()
  #requests = 0
  #deleting = false
  #unsaved = false

  constructor(options: LiveSessionOptions) {
    this.#options = options
    this.#state = options.state
    this.#ids = new RequestIds(options.generation)
    const { id: sessionId, log, settings, generation, onLost } = options
    const { ttl, eventLimit: limit, onStoreError, logger, sticky } = settings
    this.#log = new SessionLog({
      log,
      sessionId,
      generation: sticky ? undefined : generation,
      ttl,
      limit,
      onStoreError,
      logger,
      onLost,
    })
    this.audience = new Audience({
      sessionId,
      store: log,
      log: this.#log,
      delivered: options.delivered,
      readDelivered: options.readDelivered,
      newTail: options.newTail,
      isWritten: (streamId) => this.#isWritten(streamId),
      onLeft: () => {
        this.lastUsed = monotonicNow()
        this.#quiet()
      },
    })
    this.#calls = new Calls({
      sessionId,
      local: options.local,
      store: log,
      log: this.#log,
      ids: this.#ids,
      settings,
      primes: (request) => this.#primes(request),
      attach: (stream, headers, how) => this.audience.attach(stream, headers, how),
      pace: () => this.#pace(),
      onUse: () => this.#used(),
      onAnswered: (request, response) => this.#answered(request, response),
      onBroken: (streamId) => this.#broken(streamId),
      onEnd: () => {
        this.lastUsed = monotonicNow()
        this.#quiet()
      },
    })
  }

  get id(): string {
    return this.#options.id
  }

  get principal(): string | null {
    return this.#options.principal
  }

  get generation(): number {
    return this.#options.generation
  }

  get state(): SessionState {
    return this.#state
  }

  get local(): LocalApp {
    return this.#options.local
  }

  get closed(): boolean {
    return this.#stop.stopped
  }

  get listening(): boolean {
    return this.#log.followed
  }

  get busy(): boolean {
    return this.#requests > 0 || this.#calls.size > 0
  }

  get calls(): number {
    return this.#calls.size
  }

  /** Resolves when the app's standalone stream is open (or the app has none). */
  openTap(): Promise<void> {
    const { local, app, settings } = this.#options
    return openTap({
      app,
      request: (lastEventId) => local.standaloneRequest(lastEventId),
      onMessage: (data) => {
        const message = parseMessage(data)
        const marked = message && this.#ids.outbound(message)
        void this.#log.append(
          STANDALONE,
          'message',
          marked === message ? data : JSON.stringify(marked),
          false,
        )
      },
      pace: () => this.#pace(),
      onCut: () => void this.#log.cut(STANDALONE, settings.retryInterval),
      onBroken: () => void this.#broken(),
      signal: this.#stop,
      logger: settings.logger,
    })
  }

  /** Rejects with `LocalSessionLost`, `CallLeft`, or with what the app threw. */
  async handle(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    this.#requests += 1
    this.lastUsed = monotonicNow()
    try {
      switch (request.method) {
        case 'GET':
          return await this.#get(request, how)
        case 'DELETE':
          return await this.#delete(request)
        default:
          return await this.#post(request, how)
      }
    } finally {
      this.#requests -= 1
      this.#quiet()
    }
  }

  /** Runs a request again that its last owner did not finish. */
  rerun(request: AppRequest, requests: readonly Request[], streamId: string): Promise<void> {
    return this.#calls.rerun(request, requests, streamId)
  }

  /** Ends a stream that its last owner left open. */
  async finish(streamId: string, answers: readonly string[]): Promise<void> {
    for (const payload of answers.slice(0, -1)) await this.#log.append(streamId, 'message', payload)
    const last = answers.at(-1)
    await this.#log.append(streamId, last === undefined ? 'end' : 'final', last)
    this.#calls.drop(streamId)
  }

  /** What runs is left open in the log, for the next owner. Settles when the log has it. Never rejects. */
  async leaveCalls(): Promise<void> {
    this.#calls.answerStranded()
    this.#calls.abandon()
    await this.#log.flush()
  }

  /** Stops everything in this process. What is stored stays as it is. */
  close(): void {
    if (this.closed) return
    this.#stop.stop()
    this.#calls.abandon()
    void this.#log.close()
    this.audience.close()
  }

  /** The session leaves this node in good order. */
  moveAway(retry: number): void {
    this.audience.moveAway(retry)
    this.close()
  }

  async #post(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    const sent = toMessages(request.parsed)
    // Not JSON-RPC: the app knows what to say to that.
    if (!sent) return relayWhole(await this.#options.local.fetch(request), this.id)
    const messages = sent
      .map((message) => this.#ids.inbound(message))
      .filter((message) => message !== undefined)
    if (messages.length === 0) return this.#acceptStale(request)

    const changed = messages.length < sent.length || messages.some((message, i) => message !== sent[i])
    const inner = changed ? withMessages(request, messages, Array.isArray(request.parsed)) : request
    const requests = messages.filter(isRequest)
    if (requests.length > 0) return this.#calls.make(inner, requests, how)

    const response = await this.#options.local.fetch(inner)
    if (response.status < 300) {
      this.#used()
      await this.#notified(messages)
    }
    return relayWhole(response, this.id)
  }

  /** An answer to an instance that is gone: accepted like any other, and dropped. */
  async #acceptStale(request: AppRequest): Promise<Answer> {
    const refused = await this.#options.local.authorise(request)
    if (refused.status !== 200) return refused
    return {
      status: 202,
      headers: refused.headers.filter(noContent),
      body: '',
    }
  }

  async #notified(messages: readonly Message[]): Promise<void> {
    for (const message of messages) {
      if (isNotification(message, 'notifications/initialized') && !this.#state.initialized) {
        await this.#save({ ...this.#state, initialized: true })
      }
      const cancelled = isNotification(message, 'notifications/cancelled') && message.params?.['requestId']
      if (typeof cancelled === 'string' || typeof cancelled === 'number') {
        await this.#calls.cancel(cancelled)
      }
    }
  }

  async #get(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    const allowed = await this.#options.local.authorise(request)
    if (allowed.status !== 200) return allowed
    if (!request.headers['accept']?.includes('text/event-stream')) {
      return withCors(refuse(406, 'Not Acceptable: Client must accept text/event-stream'), allowed.headers)
    }
    const lastEventId = request.headers['last-event-id']
    const cursor = lastEventId === undefined ? undefined : parseEventId(this.id, lastEventId)
    if (lastEventId !== undefined && !cursor) {
      const message = 'Invalid event ID: it is none of this session. Reconnect without Last-Event-ID.'
      return withCors(refuse(400, message), allowed.headers)
    }
    this.#used()

    if (cursor && (await this.#endedForGood(cursor))) {
      return { status: 204, headers: allowed.headers.filter(noContent), body: '' }
    }
    const from = cursor ? { ...cursor, after: cursor.position } : await this.audience.standalone()
    const { streamId, epoch } = from
    // Nothing waits between ending the old response and attaching the new one: there is never more than one, and what
    // the old one has delivered is known.
    this.audience.end(streamId)
    const after = cursor ? from.after : this.audience.delivered
    const stream = {
      streamId,
      after,
      epoch,
      finite: !this.#isWritten(streamId),
      priming: this.#primes(request),
    }
    return this.audience.attach(stream, streamHeaders(allowed.headers, this.id), how)
  }

  /**
   * The client has all of a stream that ended with an error, or without an answer because it was cancelled. The v1 SDK's client
   * takes neither for an end and comes again, for ever; an empty event stream would not tell it otherwise, 204 does.
   */
  async #endedForGood({ streamId, position, epoch }: Cursor): Promise<boolean> {
    if (this.#isWritten(streamId)) return false
    const page = await this.#options.log.read({ sessionId: this.id, streamId, after: position - 1, limit: 2 })
    const [last, next] = page.events
    if (page.epoch !== epoch || last?.position !== position) return false
    if (next) return next.kind === 'end'
    return last.kind === 'final' && parseMessage(last.payload)?.error !== undefined
  }

  async #delete(request: AppRequest): Promise<Answer> {
    this.#deleting = true
    try {
      const response = await this.#options.local.fetch(request)
      const answer = await relayWhole(response, this.id)
      if (answer.status < 300) await this.#options.onTerminated()
      return answer
    } finally {
      this.#deleting = false
    }
  }

  /** With its session the app ends the session's streams: then nothing is broken. */
  async #broken(streamId?: string): Promise<void> {
    if (!this.#deleting) await this.#options.onBroken(streamId)
  }

  async #answered(request: Request, response: Message): Promise<void> {
    if (changesState(request) && response.error === undefined)
      await this.#save(stateAfter(this.#state, request))
  }

  async #save(state: SessionState): Promise<void> {
    this.#state = state
    const { saveState, onLost, settings } = this.#options
    try {
      this.#unsaved = false
      if (!(await saveState(state))) onLost()
    } catch (error) {
      // The session goes on with it; it is stored at the next use.
      this.#unsaved = true
      settings.logger.error(
        { operation: 'update', sessionId: this.id, error: errorText(error) },
        'state is not stored',
      )
    }
  }

  #isWritten(streamId: string): boolean {
    return streamId === STANDALONE || this.#calls.has(streamId)
  }

  #primes(request: AppRequest): boolean {
    return primes(request, this.#state, this.#options.settings)
  }

  async #pace(): Promise<void> {
    while (this.#log.pending > MAX_PENDING && !this.closed) await delay(1)
  }

  #used(): void {
    this.lastUsed = monotonicNow()
    this.#options.onUse()
    if (this.#unsaved) void this.#save(this.#state)
  }

  #quiet(): void {
    if (!this.busy && !this.listening && !this.closed) this.#options.onQuiet()
  }
}

function noContent([name]: readonly [string, string]): boolean {
  return !name.startsWith('content-')
}

function withMessages(request: AppRequest, messages: readonly Message[], batch: boolean): AppRequest {
  const parsed = batch ? messages : messages[0]
  return { ...request, parsed, body: Buffer.from(JSON.stringify(parsed)) }
}
