import {
  AppAway,
  AppBrokeOff,
  type AppRequest,
  type HeaderPairs,
  isAppGone,
  isEventStream,
} from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import { FewMap } from '../../few.ts'
import type { Settings } from '../../options.ts'
import type { EventLog, OpenStream } from '../../store/port.ts'
import {
  type Answer,
  appAway,
  cancelled,
  refuse,
  relayWhole,
  streamHeaders,
  toPayload,
  unavailable,
} from '../protocol/answer.ts'
import { interrupted, interruptedAnswer } from '../protocol/interrupted.ts'
import {
  batchOf,
  errorResponse,
  idKey,
  isResponse,
  type Message,
  parseMessages,
  type Request,
} from '../protocol/json-rpc.ts'
import type { SessionLog } from '../streams/session-log.ts'
import { newStreamId, type StreamRef } from '../streams/stream.ts'
import { AppSilent } from './ask-app.ts'
import { AskedAgain, openPayload } from './asked-again.ts'
import { Call } from './call.ts'
import { type Handling, isAwaited, type OwnerAnswer } from './handling.ts'
import { isBusy, type LocalApp, LocalSessionLost } from './local-app.ts'
import type { RequestIds } from './request-ids.ts'
import { SessionLeft } from './session-left.ts'

export interface CallsOptions {
  readonly sessionId: string
  readonly local: LocalApp
  readonly store: EventLog
  readonly log: SessionLog
  readonly ids: RequestIds
  readonly settings: Settings
  readonly primes: (request: AppRequest) => boolean
  /** Lets whoever has asked follow a stream. */
  readonly attach: (stream: StreamRef, headers: HeaderPairs, how: Handling) => OwnerAnswer
  readonly pace: () => Promise<void> | undefined
  readonly onUse: () => void
  /** The app has answered a request; what this returns settles before the client learns it. */
  readonly onAnswered: (request: Request, response: Message) => Promise<void> | undefined
  /**
   * An app in another process, or the connection to it, is gone in the middle of a call that has its record. Settles when it is
   * settled, here or by giving the session up.
   */
  readonly onBroken: (call: OpenStream) => Promise<void>
  /** Does a second run do no harm? */
  readonly mayRepeat: (requests: readonly Request[]) => Promise<boolean>
  readonly onEnd: () => void
}

/** Milliseconds that the answer to another node waits for what the call says. */
const QUICK = 2

interface Running {
  /** Settles when the end of its stream is stored, or somebody else's affair. */
  readonly over: Promise<void>
  readonly call: Call
  readonly request: AppRequest
  /** How often it was begun. */
  readonly runs: number
  /** Somebody follows its stream who asked for it again, and must find an answer there. */
  joined?: true
  /** Its record, once that is on its way to the log; false: it could not be stored. */
  recorded?: Promise<boolean>
}

type Begun = Pick<Running, 'request' | 'runs'> & {
  readonly streamId: string
  readonly requests: readonly Request[]
  /** Undefined: nobody has asked; it is run again. */
  readonly how?: Handling
}

/** The calls that run in one live session, by their streams. */
export class Calls {
  readonly #options: CallsOptions
  readonly #running = new FewMap<string, Running>()
  readonly #askedAgain: AskedAgain
  /** The session is not to be had here any more: what is begun now would be nobody's. */
  #left = false

  constructor(options: CallsOptions) {
    this.#options = options
    this.#askedAgain = new AskedAgain({ ...options, running: this.#running })
  }

  get size(): number {
    return this.#running.size
  }

  has(streamId: string): boolean {
    return this.#running.has(streamId)
  }

  /** Rejects with `LocalSessionLost`, `NotTheirs`, `SessionLeft`, or with what the app threw. */
  async make(request: AppRequest, requests: readonly Request[], given: Handling): Promise<OwnerAnswer> {
    const how = this.#askedAgain.note(given)
    const { sessionId, local, log, primes, attach, onUse, mayRepeat } = this.#options
    const { streamId, remote, principal } = how
    const begun = this.#askedAgain.times(streamId)
    const known = how.again && (await this.#askedAgain.find(streamId, request, requests))
    if (known?.next !== undefined) return this.make(request, requests, { ...how, streamId: known.next })
    if (known) return this.#resume(request, requests, how)
    if (how.again === 'unrecorded' && !(await mayRepeat(requests))) return interruptedAnswer(requests)
    // What was read is out of date: asked for twice, it was made, and may be over by now.
    if (this.#askedAgain.times(streamId) !== begun) return this.make(request, requests, how)
    const refused = this.#refuse(requests)
    if (refused) return refused
    // Where nobody waits any more, it may have been made elsewhere by now: by a node that took this one for gone.
    if (this.#left || how.gone?.stopped) throw new SessionLeft()
    const running = this.#begin({ streamId, requests, request, runs: 1, how })
    const { call } = running
    try {
      // Another node waits for this call. Should this one die, that one looks for the record and knows that the app may
      // have been called; here at home the client's connection dies with the process, and the record can wait.
      log.begin(streamId)
      if (remote) {
        const recorded = await this.#record(running)
        // It was refused, for somebody else owns the session; or the session leaves, and its next owner settles what has a
        // record, also one that the store has though it did not say so. The app has not heard of the call, and must not now.
        if (call.abandoned) throw new SessionLeft('recorded')
        // This node may be cut off from the others and be taken for gone: then the next owner would find no record, and run
        // the call as well.
        if (!recorded) {
          // Of what may have been run before, without a record, nobody can say that nothing was done.
          const isNew = how.again !== 'unrecorded'
          // The store may have the record without having said so, and a client at another node may have seen its stream begin:
          // whoever comes back to that must hear what became of it.
          const ends = requests.map(isNew ? unrecorded : interrupted)
          await this.#withoutStream(call, how, 'final', batchOf(ends))
          return isNew ? unavailable('The call could not be recorded.') : interruptedAnswer(requests)
        }
      }
      const response = await local.fetch(request, { principal, signal: call.signal })
      if (response.status < 300) onUse()
      if (!isEventStream(response)) {
        const forget = call.signal.onStop(() => response.cancel())
        const answer = await relayWhole(response, sessionId).finally(forget)
        const text = answer.status === 200 ? answer.body.toString() : ''
        if (text !== '') await this.#answered(requests, text)
        if (parseMessages(text).some(isResponse)) await this.#withoutStream(call, how, 'final', text)
        else if (running.joined) await call.fail(`The server answered with status ${answer.status}.`)
        else await this.#withoutStream(call, how, 'end', toPayload(answer))
        return answer
      }
      const opened = remote && log.opened(streamId)
      const stream = { streamId, after: 0, fresh: true, priming: primes(request), opened }
      const answer = attach(stream, streamHeaders(response.headers, sessionId), how)
      // The record stands before anything the app says, because both go the same way in the order of the calls.
      if (!remote) log.open(streamId, openPayload(request))
      void call.run(response)
      // The other node follows from here on. What a quick call says goes to it in one message with this answer.
      if (remote) await Promise.race([running.over, delay(QUICK)])
      return answer
    } catch (error) {
      if (error instanceof SessionLeft) throw error
      // What is open in the log stays open, for the session's next owner. Of a call that has no record nobody can tell what
      // became of it; but its client is still here, and it may be one that can be repeated.
      if (call.abandoned) throw new SessionLeft((await running.recorded) ? 'recorded' : 'unrecorded')
      // Cancelled before the app had begun to answer: nothing is left to be said.
      if (call.ended) return cancelled()
      // The app may have seen it: from here on it is a call like any other that was lost.
      if (error instanceof AppBrokeOff && (await this.#record(running))) {
        await this.#lost(running)
        throw new SessionLeft('recorded')
      }
      if (running.joined) await call.fail('The server broke off.')
      if (error instanceof LocalSessionLost) {
        const next = newStreamId()
        if (await this.#withoutStream(call, how, 'end', JSON.stringify({ next }))) error.nextStreamId = next
        else error.made = 'recorded'
        throw error
      }
      await this.#withoutStream(call, how, 'end', wasNotMade(error) ? toPayload(appAway()) : '')
      throw error
    }
  }

  /** Gives up what nobody has followed for `ttl` ms. */
  endForgotten(ttl: number): void {
    for (const { call } of this.#running.values()) {
      if (!this.#isForgotten(call, ttl)) continue
      const facts = { sessionId: this.#options.sessionId, streamId: call.streamId }
      this.#options.settings.logger.warn(facts, 'a call was given up: nobody has followed it for a ttl')
      void call.giveUp()
    }
  }

  /** Has nobody followed any of them for `ms`? */
  areForgotten(ms: number): boolean {
    // Each is looked at: to look is to note that somebody is there.
    return this.#running.values().filter(({ call }) => !this.#isForgotten(call, ms)).length === 0
  }

  /** Somebody who followed it has gone: a client that comes and goes between two looks was there all the same. */
  left(streamId: string): void {
    const running = this.#running.get(streamId)
    if (running) running.call.lastFollowed = monotonicNow()
  }

  /** Does somebody wait for one of them? */
  get followed(): boolean {
    return this.#running.values().some(({ call }) => this.#isFollowed(call))
  }

  #isForgotten(call: Call, ms: number): boolean {
    if (this.#isFollowed(call)) {
      call.lastFollowed = monotonicNow()
      return false
    }
    return monotonicNow() - call.lastFollowed >= ms
  }

  #isFollowed(call: Call): boolean {
    return this.#options.log.listeners(call.streamId).length > 0 || call.isAwaited
  }

  /**
   * Two requests with one id: the SDK answers one of their streams with both, and leaves the other open for ever. And a
   * session has so many calls at once, and not more.
   */
  #refuse(requests: readonly Request[]): Answer | undefined {
    const { settings, sessionId } = this.#options
    const ids = new Set(requests.map(({ id }) => idKey(id)))
    const twice =
      ids.size < requests.length ||
      requests.some(({ id }) => this.#running.values().some(({ call }) => call.has(id)))
    if (twice) return refuse(400, 'Invalid Request: a request with this id is running', { code: -32600 })
    if (this.#running.size < settings.maxCalls) return undefined
    const facts = { sessionId, maxCalls: settings.maxCalls }
    settings.logger.warn(facts, 'a call was refused: the session has as many calls as it may have')
    return refuse(429, 'Too many requests of this session are running', { retryAfter: 1 })
  }

  /** Runs a request again that was not finished; its answer goes into the stream it was opened with. Never rejects. */
  async rerun(
    request: AppRequest,
    requests: readonly Request[],
    streamId: string,
    runs: number,
  ): Promise<void> {
    const { sessionId, local, log, settings } = this.#options
    // Where only its connection broke, the former run is here still.
    const former = this.#running.get(streamId)
    const running = this.#begin({ streamId, requests, request, runs })
    const { call } = running
    former?.call.abandon()
    try {
      // Counted before the app hears of it: should it take its process with it as well, it is not run a third time.
      await this.#record(running)
      if (call.abandoned) return
      const response = await local.fetch(request, { signal: call.signal })
      if (isEventStream(response)) return void call.run(response)
      const answer = await relayWhole(response, sessionId)
      const text = answer.body.toString()
      if (parseMessages(text).length === 0)
        return void (await call.fail(`The server answered with status ${answer.status}.`))
      await this.#answered(requests, text)
      await log.append(streamId, 'final', text)
      this.#running.delete(streamId)
    } catch (error) {
      if (call.abandoned || call.ended) return
      if (isAppGone(error)) return void (await this.#lost(running))
      const facts = { sessionId, requestId: streamId, error: errorText(error) }
      settings.logger.error(facts, 'a lost call could not be run again')
      await call.fail('The server could not run it again.')
    }
  }

  async cancel(requestId: string | number): Promise<void> {
    for (const { call } of this.#running.values()) if (call.has(requestId)) await call.cancel(requestId)
  }

  /** Gives their records to those that the app has not begun to answer, for it may have begun to work. */
  recordAll(): void {
    for (const running of this.#running.values()) if (!running.call.begun) void this.#record(running)
  }

  /** Stops reading; the log keeps the streams open, for whoever owns the session next. */
  abandon(): void {
    this.#left = true
    for (const { call } of this.#running.values()) call.abandon()
  }

  /** Somebody has written the end of that stream. */
  drop(streamId: string): void {
    this.#running.get(streamId)?.call.abandon()
  }

  /** Tells those who wait for an answer here, and have nothing to come back with, that none will come. */
  answerStranded(): void {
    const { log } = this.#options
    for (const [streamId, { call }] of this.#running.entries()) {
      for (const listener of log.listeners(streamId)) {
        if (listener.resumable) continue
        call.open.forEach((request, i) => {
          listener.pushUnstored(interrupted(request), i === call.open.length - 1)
        })
      }
    }
  }

  /** The record of a call stands before anybody can ask what became of it. False: it could not be stored. */
  #record(running: Running): Promise<boolean> {
    const { call, request } = running
    running.recorded ??= this.#options.log.append(call.streamId, 'open', openPayload(request), false)
    return running.recorded
  }

  /** The app, or the connection to it, is gone in the middle of a call; what it said before is stored first. */
  async #lost({ call: { streamId }, request, runs }: Running): Promise<void> {
    const { log, onBroken } = this.#options
    await log.flush()
    await onBroken({ streamId, payload: openPayload(request), runs })
  }

  async #answered(requests: readonly Request[], text: string): Promise<void> {
    for (const message of parseMessages(text).filter(isResponse)) {
      const request = requests.find(({ id }) => id === message.id)
      if (request) await this.#options.onAnswered(request, message)
    }
  }

  /**
   * The app has answered without a stream: nothing is left open. At another node than the client's the answer is stored
   * too, in case that node asks again because it took this one for gone; a refusal as well, for it says that nothing was done.
   * False: the store did not take it, and the call is open in the log.
   */
  async #withoutStream(
    call: Call,
    { streamId, remote }: Handling,
    kind: 'final' | 'end',
    payload: string,
  ): Promise<boolean> {
    const { log } = this.#options
    this.#running.delete(streamId)
    if (remote && !call.ended) return log.append(streamId, kind, payload, false)
    log.forget(streamId)
    return true
  }

  /** The call was made at an owner that is gone, and has been dealt with: only its stream is left to be read. */
  async #resume(request: AppRequest, requests: readonly Request[], how: Handling): Promise<OwnerAnswer> {
    const { sessionId, local, primes, attach } = this.#options
    const allowed = await local.authorise(request, how.principal)
    // Busy is no word on the caller, nor on the call.
    if (isBusy(allowed.status)) throw new AppSilent()
    if (allowed.status !== 200) return allowed
    const { streamId } = how
    const answer = this.has(streamId) ? undefined : (await this.#askedAgain.look(streamId, requests))?.answer
    if (answer) return answer
    const running = this.#running.get(streamId)
    if (running) running.joined = true
    const stream = { streamId, after: 0, finite: !running, priming: primes(request) }
    return attach(stream, streamHeaders(allowed.headers, sessionId), how)
  }

  #begin({ streamId, requests, request, runs, how }: Begun): Running {
    const { local, settings, log, ids, pace, primes, onAnswered, onEnd } = this.#options
    let end = () => {}
    const over = new Promise<void>((resolve) => {
      end = resolve
    })
    const call: Call = new Call({
      streamId,
      requests,
      isAwaited: () => how !== undefined && isAwaited(how),
      local,
      log,
      ids,
      pace,
      onAnswered,
      primed: primes(request),
      onCut: () => void log.cut(streamId, settings.retryInterval),
      onBroken: () => void this.#lost(running),
      onEnd: () => {
        if (this.#running.get(streamId)?.call === call) this.#running.delete(streamId)
        end()
        onEnd()
      },
      logger: settings.logger,
    })
    const running: Running = { call, request, runs, over }
    this.#running.set(streamId, running)
    this.#askedAgain.began(streamId)
    return running
  }
}

/** Has the app not even begun with it? */
function wasNotMade(error: unknown): boolean {
  return error instanceof AppSilent || error instanceof AppAway
}

/** What whoever follows its stream hears of a call whose record the store has not confirmed. */
function unrecorded({ id }: Request): string {
  return errorResponse(id, -32603, 'The call could not be stored, and was not made. It may be made again.')
}
