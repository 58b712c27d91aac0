import type { App, AppRequest } from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { FewSet } from '../../few.ts'
import type { Settings } from '../../options.ts'
import { Stop, type StopSignal } from '../../stop.ts'
import { type Cursor, parseEventId } from '../../store/event-id.ts'
import type { EventLog, OpenStream, SessionState } from '../../store/port.ts'
import {
  type Answer,
  clientHeaders,
  refuse,
  relayWhole,
  streamHeaders,
  withCors,
} from '../protocol/answer.ts'
import {
  isNotification,
  isRequest,
  type Message,
  parseMessages,
  type Request,
  toMessages,
} from '../protocol/json-rpc.ts'
import { primes } from '../protocol/priming.ts'
import type { NewTail } from '../streams/new-tail.ts'
import { SessionLog } from '../streams/session-log.ts'
import { STANDALONE } from '../streams/stream.ts'
import { Calls } from './calls.ts'
import { type Handling, isAwaited, type OwnerAnswer } from './handling.ts'
import type { LocalApp } from './local-app.ts'
import { RequestIds } from './request-ids.ts'
import { isAt } from './session-state.ts'
import { openTap } from './standalone-stream.ts'
import { StoredState } from './stored-state.ts'
import { Subscribers } from './subscribers.ts'

// Appends under way before the app is held back.
const MAX_PENDING = 256

export interface LiveSessionOptions {
  readonly id: string
  readonly generation: number
  /** The log's last position when this generation began. */
  readonly last: number
  readonly state: SessionState
  /** The last standalone position delivered to the client. */
  readonly delivered: number
  readonly app: App
  readonly local: LocalApp
  readonly log: EventLog
  readonly settings: Settings
  /** Stores a new state, and whose the session is; false: this node does not own the session any more. */
  readonly saveState: (state: SessionState, principal: string | null) => Promise<boolean>
  /** A client's stream in this process. */
  readonly newTail: NewTail
  /** The last standalone position delivered to the client anywhere, as far as the store knows. */
  readonly readDelivered: () => Promise<number>
  readonly onUse: () => void
  readonly onLost: () => void
  /**
   * An app in another process, or a connection to it, is gone; with a call that nobody answers any more. Settles when that is
   * settled, here or by giving the session up. Never rejects.
   */
  readonly onBroken: (call?: OpenStream) => Promise<void>
  /** Does a second run of these do no harm? */
  readonly mayRepeat: (requests: readonly Request[]) => Promise<boolean>
  /** The client has ended the session, and the app agreed. Settles before the client learns it. */
  readonly onTerminated: () => Promise<void>
  /** Nothing is going on at the moment. */
  readonly onQuiet: () => void
}

/** One session running in this process: its calls, its standalone stream, and the clients that listen here. */
export class LiveSession {
  readonly #options: LiveSessionOptions
  readonly #log: SessionLog
  readonly #ids: RequestIds
  readonly #calls: Calls
  readonly #stop = new Stop()
  readonly #state: StoredState
  readonly audience: Subscribers
  /** Monotonic ms. */
  lastUsed = monotonicNow()
  /** Requests that have no answer yet. */
  readonly #requests = new FewSet<Handling>()
  /** The instance was told that its client is initialized: should that come late as well, it is not told twice. */
  #told = false
  #deleting = false

  constructor(options: LiveSessionOptions) {
    this.#options = options
    this.#ids = new RequestIds(options.generation)
    const { id: sessionId, log, settings, generation, last: began, onLost, local } = options
    this.#state = new StoredState({
      ...options,
      sessionId,
      binding: local.binding,
      isClosed: () => this.closed,
    })
    const { ttl, eventLimit: limit, onStoreError, logger, sticky } = settings
    this.#log = new SessionLog({
      log,
      sessionId,
      generation: sticky ? undefined : generation,
      began,
      ttl,
      limit,
      onStoreError,
      logger,
      onLost,
    })
    this.audience = new Subscribers({
      sessionId,
      store: log,
      log: this.#log,
      delivered: options.delivered,
      readDelivered: options.readDelivered,
      newTail: options.newTail,
      isWritten: (streamId) => this.#isWritten(streamId),
      onLeft: (streamId) => {
        this.lastUsed = monotonicNow()
        this.#calls.left(streamId)
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
      onAnswered: (request, response) => this.#state.answered(request, response),
      onBroken: (call) => this.#broken(call),
      mayRepeat: options.mayRepeat,
      onEnd: () => {
        this.lastUsed = monotonicNow()
        this.#quiet()
      },
    })
  }

  get id(): string {
    return this.#options.id
  }

  get generation(): number {
    return this.#options.generation
  }

  get local(): LocalApp {
    return this.#options.local
  }

  get closed(): boolean {
    return this.#stop.stopped
  }

  /** Is it a session of that endpoint? */
  isAt(endpoint: string | undefined): boolean {
    return isAt(this.#state.current, endpoint)
  }

  get listening(): boolean {
    return this.#log.followed
  }

  /** What the store did not take yet counts: with it an answer would leave, and the next owner would call it interrupted. */
  get busy(): boolean {
    return this.#requests.size > 0 || this.#calls.size > 0 || this.#log.unstored
  }

  /** Is somebody there who listens, or waits for an answer? A call that nobody follows is no use of the session. */
  get inUse(): boolean {
    if (this.listening || this.#calls.followed) return true
    return this.#isAwaited
  }

  /** Nothing runs here, or nothing that anybody has followed for `ms`. */
  isQuiet(ms: number): boolean {
    if (!this.busy) return true
    return !this.#log.unstored && !this.#isAwaited && this.#calls.areForgotten(ms)
  }

  get #isAwaited(): boolean {
    return this.#requests.values().some(isAwaited)
  }

  get calls(): number {
    return this.#calls.size
  }

  /** Gives up calls that nobody has followed for a ttl. */
  endForgottenCalls(): void {
    this.#calls.endForgotten(this.#options.settings.ttl)
  }

  /** Resolves when the app's standalone stream is open (or the app has none), or was given a moment to. */
  openTap(): Promise<void> {
    const { local, app, settings } = this.#options
    return openTap({
      app,
      sessionId: this.id,
      request: (lastEventId, signal) => local.standaloneRequest(lastEventId, signal),
      caller: () => local.caller,
      onMessage: (data) => {
        void this.#log.append(STANDALONE, 'message', this.#ids.mark(data, parseMessages(data)), false)
        return undefined
      },
      pace: () => this.#pace(),
      onCut: () => void this.#log.cut(STANDALONE, settings.retryInterval),
      onBroken: () => void this.#broken(),
      signal: this.#stop,
      logger: settings.logger,
    })
  }

  /** Rejects with `LocalSessionLost`, `NotTheirs`, `AppSilent`, `SessionLeft`, or with what the app threw. */
  async handle(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    this.#requests.add(how)
    this.lastUsed = monotonicNow()
    try {
      if (request.method !== 'GET' && this.local.binding.mustAsk(request)) {
        const allowed = await this.local.authorise(request, how.principal)
        if (allowed.status !== 200) return allowed
      }
      switch (request.method) {
        case 'GET':
          return await this.#get(request, how)
        case 'DELETE':
          return await this.#delete(request, how)
        case 'POST':
          return await this.#post(request, how)
        default:
          return await this.#relay(request)
      }
    } finally {
      this.#requests.delete(how)
      this.#quiet()
    }
  }

  /**
   * A rehydrated instance is told in any case that its client is initialized: whoever asks for anything else has said so
   * (MCP 2025-11-25, "Lifecycle", "Initialization"). So nothing needs to be stored of it, and no store can lose it.
   */
  async tellInitialized(signal: StopSignal): Promise<void> {
    await this.local.notify('notifications/initialized', signal)
    this.#told = true
  }

  /** See `StoredState`. */
  saveClaimed(): Promise<void> {
    return this.#state.saveClaimed()
  }

  /** Runs a request again that was not finished, for the `runs`th time. */
  rerun(request: AppRequest, requests: readonly Request[], streamId: string, runs: number): Promise<void> {
    return this.#calls.rerun(request, requests, streamId, runs)
  }

  /** Ends a stream that its last owner left open. */
  async finish(streamId: string, answers: readonly string[]): Promise<void> {
    for (const payload of answers.slice(0, -1)) await this.#log.append(streamId, 'message', payload)
    const last = answers.at(-1)
    await this.#log.append(streamId, last === undefined ? 'end' : 'final', last)
    this.#calls.drop(streamId)
  }

  /**
   * What runs is left open in the log, for the next owner; with `all` also what the app has not begun to answer, whose clients
   * wait here for what becomes of it. Settles when the log has it. Never rejects.
   */
  async leaveCalls({ all }: { all: boolean }): Promise<void> {
    if (all) this.#calls.recordAll()
    this.#calls.answerStranded()
    this.#calls.abandon()
    await this.#log.flush()
  }

  /** Stops everything in this process. What is stored stays as it is. */
  close(): void {
    if (this.closed) return
    this.#stop.stop()
    void this.#log.close()
    this.#calls.abandon()
    this.audience.close()
  }

  /** The session leaves this node in good order. */
  moveAway(retry: number): void {
    this.audience.moveAway(retry)
    this.close()
  }

  /** A method that the protocol does not have is the app's to answer. */
  async #relay(request: AppRequest): Promise<Answer> {
    const response = await this.#options.local.fetch(request)
    const { status } = response
    const headers = clientHeaders(response.headers, this.id)
    if (request.method !== 'HEAD') return { status, headers, response }
    response.cancel()
    return { status, headers, body: '' }
  }

  async #post(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    const sent = toMessages(request.parsed)
    // Not JSON-RPC: the app knows what to say to that.
    if (!sent) return relayWhole(await this.local.fetch(request, how), this.id)
    if (sent.some((message) => this.#ids.isForSuccessor(message))) await this.#state.confirmOwned()
    const messages = sent
      .map((message) => this.#ids.inbound(message))
      .filter((message) => message !== undefined)
      .filter((message) => !(this.#told && isNotification(message, 'notifications/initialized')))
    if (messages.length === 0) return this.#acceptStale(request, how)

    const changed = messages.length < sent.length || messages.some((message, i) => message !== sent[i])
    const inner = changed ? withMessages(request, messages, Array.isArray(request.parsed)) : request
    const requests = messages.filter(isRequest)
    if (requests.length > 0) return this.#state.refuse(requests) ?? this.#calls.make(inner, requests, how)

    const response = await this.local.fetch(inner, how)
    if (response.status < 300) {
      this.#used()
      await this.#notified(messages)
    }
    return relayWhole(response, this.id)
  }

  /** What is meant for an instance that is gone: accepted like any other, and dropped. */
  async #acceptStale(request: AppRequest, { principal }: Handling): Promise<Answer> {
    const allowed = await this.local.authorise(request, principal)
    if (allowed.status !== 200) return allowed
    return {
      status: 202,
      headers: allowed.headers.filter(noContent),
      body: '',
    }
  }

  async #notified(messages: readonly Message[]): Promise<void> {
    for (const message of messages) {
      const cancelled = isNotification(message, 'notifications/cancelled') && message.params?.['requestId']
      if (typeof cancelled === 'string' || typeof cancelled === 'number') {
        await this.#calls.cancel(cancelled)
      }
    }
  }

  async #get(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    const allowed = await this.local.authorise(request, how.principal)
    if (allowed.status !== 200) return allowed
    if (!request.headers['accept']?.includes('text/event-stream')) {
      return withCors(refuse(406, 'Not Acceptable: Client must accept text/event-stream'), allowed.headers)
    }
    const lastEventId = request.headers['last-event-id']
    const cursor = lastEventId === undefined ? undefined : parseEventId(this.id, lastEventId)
    if (lastEventId !== undefined && !cursor) {
      const message = 'Invalid event ID: it does not belong to this session. Reconnect without Last-Event-ID.'
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
   * The client has all of a stream that ended with an error, or without an answer because it was cancelled. The v1 SDK's
   * client takes neither for an end and comes again, for ever; an empty event stream would not tell it otherwise, 204 does.
   */
  async #endedForGood({ streamId, position, epoch }: Cursor): Promise<boolean> {
    if (this.#isWritten(streamId)) return false
    const page = await this.#options.log.read({ sessionId: this.id, streamId, after: position - 1, limit: 2 })
    const [last, next] = page.events
    if (page.epoch !== epoch || last?.position !== position) return false
    if (next) return next.kind === 'end'
    return last.kind === 'final' && parseMessages(last.payload).some(({ error }) => error !== undefined)
  }

  async #delete(request: AppRequest, how: Handling): Promise<Answer> {
    this.#deleting = true
    try {
      const response = await this.local.fetch(request, how)
      const answer = await relayWhole(response, this.id)
      if (answer.status < 300) await this.#options.onTerminated()
      return answer
    } finally {
      this.#deleting = false
    }
  }

  /** With its session the app ends the session's streams: then nothing is broken. */
  async #broken(call?: OpenStream): Promise<void> {
    if (!this.#deleting) await this.#options.onBroken(call)
  }

  #isWritten(streamId: string): boolean {
    return streamId === STANDALONE || this.#calls.has(streamId) || this.#log.waiting(streamId)
  }

  #primes(request: AppRequest): boolean {
    return primes(request, this.#state.current, this.#options.settings)
  }

  #pace(): Promise<void> | undefined {
    return this.#log.pending > MAX_PENDING ? this.#caughtUp() : undefined
  }

  async #caughtUp(): Promise<void> {
    while (this.#log.pending > MAX_PENDING && !this.closed) await delay(1)
  }

  #used(): void {
    this.lastUsed = monotonicNow()
    this.#options.onUse()
    this.#state.saveUnsaved()
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
