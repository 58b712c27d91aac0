import { AppBrokeOff, type AppRequest, type HeaderPairs, isAppGone, isEventStream } from '../../app/app.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { EventLog } from '../../store/store.ts'
import type { StreamRef } from '../cluster/letters.ts'
import { relayWhole, streamHeaders } from '../protocol/answer.ts'
import { interrupted, type Message, parseMessage, type Request } from '../protocol/json-rpc.ts'
import type { SessionLog } from '../streams/session-log.ts'
import { Call } from './call.ts'
import type { Handling, OwnerAnswer } from './live-session.ts'
import type { LocalApp } from './local-app.ts'
import type { RequestIds } from './request-ids.ts'

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
  readonly pace: () => Promise<void>
  readonly onUse: () => void
  /** The app has answered a request; settles before the client learns it. */
  readonly onAnswered: (request: Request, response: Message) => Promise<void>
  /** The app, or the connection to it, is gone in the middle of that call. Settles when it is settled, here or by giving up. */
  readonly onBroken: (streamId: string) => Promise<void>
  readonly onEnd: () => void
}

/** The session has left this node under a call that the app may have seen: what became of it is in the log. */
export class CallLeft extends Error {}

interface Running {
  readonly call: Call
  readonly request: AppRequest
  /** Its record, once that is on its way to the log: false, it could not be stored. */
  recorded?: Promise<boolean>
}

/** The calls that run in one live session, by their streams. */
export class Calls {
  readonly #options: CallsOptions
  readonly #running = new Map<string, Running>()

  constructor(options: CallsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#running.size
  }

  has(streamId: string): boolean {
    return this.#running.has(streamId)
  }

  /** Rejects with `LocalSessionLost`, `CallLeft`, or with what the app threw. */
  async make(request: AppRequest, requests: readonly Request[], how: Handling): Promise<OwnerAnswer> {
    const { sessionId, local, log, primes, attach, onUse, onAnswered } = this.#options
    const { streamId, remote } = how
    if (how.again && (await this.#isKnown(streamId))) return this.#resume(request, how)
    const running = this.#begin(streamId, requests, request)
    const { call } = running
    try {
      // Another node waits for this call. Should this one die, that one looks for the record and knows that the app may
      // have been called; here at home the client's connection dies with the process, and the record can wait.
      log.begin(streamId)
      if (remote) await this.#record(running)
      const response = await local.fetch(request, call.signal)
      if (response.status < 300) onUse()
      if (!isEventStream(response)) {
        const answer = await relayWhole(response, sessionId)
        const message = answer.status === 200 ? parseMessage(answer.body.toString()) : undefined
        if (message) for (const each of requests) await onAnswered(each, message)
        await this.#withoutStream(how)
        return answer
      }
      const opened = remote && log.opened(streamId)
      const stream = { streamId, after: 0, fresh: true, priming: primes(request), opened }
      const answer = attach(stream, streamHeaders(response.headers, sessionId), how)
      // The record stands before anything the app says, because both go the same way in the order of the calls.
      if (!remote) log.open(streamId, openPayload(request))
      void call.run(response)
      return answer
    } catch (error) {
      if (call.abandoned) throw (await running.recorded) ? new CallLeft() : error
      // The stream has its end already, and whoever cancels waits for nothing.
      if (call.cancelled) return { status: 202, headers: [], body: '' }
      if (error instanceof AppBrokeOff && (await this.#record(running))) {
        await this.#lost(running)
        throw new CallLeft()
      }
      await this.#withoutStream(how)
      throw error
    }
  }

  /**
   * Runs a request again that its last owner did not finish; its answer goes into the stream it was opened with. Rejects when
   * the app is gone.
   */
  async rerun(request: AppRequest, requests: readonly Request[], streamId: string): Promise<void> {
    const { sessionId, local, log } = this.#options
    // Where only its connection broke, the former run is here still.
    const former = this.#running.get(streamId)
    const running = this.#begin(streamId, requests, request)
    const { call } = running
    former?.call.abandon()
    // Its record is in the log.
    running.recorded = Promise.resolve(true)
    try {
      const response = await local.fetch(request, call.signal)
      if (isEventStream(response)) return void call.run(response)
      const answer = await relayWhole(response, sessionId)
      const text = answer.body.toString()
      if (!parseMessage(text))
        return void (await call.fail(`The server answered with status ${answer.status}.`))
      await log.append(streamId, 'final', text)
      this.#running.delete(streamId)
    } catch (error) {
      if (call.abandoned || call.cancelled) return
      if (isAppGone(error)) {
        if (error instanceof AppBrokeOff) await this.#repeat(running)
        this.#running.delete(streamId)
        throw error
      }
      await call.fail(`The server could not run it again: ${errorText(error)}`)
    }
  }

  async cancel(requestId: string | number): Promise<void> {
    for (const { call } of this.#running.values()) if (call.has(requestId)) await call.cancel(requestId)
  }

  /**
   * Stops reading; the log keeps the streams open, for whoever owns the session next. Also those that the app has not begun to
   * answer, for it may have begun to work.
   */
  abandon(): void {
    for (const running of [...this.#running.values()]) {
      if (!running.call.answering) void this.#record(running)
      running.call.abandon()
    }
  }

  /** Somebody has written the end of that stream. */
  drop(streamId: string): void {
    this.#running.get(streamId)?.call.abandon()
  }

  /** Tells those who wait for an answer here, and have nothing to come back with, that none will come. */
  answerStranded(): void {
    const { log } = this.#options
    for (const [streamId, { call }] of this.#running) {
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

  /** The app, or the connection to it, is gone in the middle of a call that has its record. */
  async #lost(running: Running): Promise<void> {
    await this.#repeat(running)
    await this.#options.onBroken(running.call.streamId)
  }

  /** The record once more: whoever settles the call sees how often the app was lost under it. */
  #repeat({ call, request }: Running): Promise<boolean> {
    return this.#options.log.append(call.streamId, 'open', openPayload(request), false)
  }

  /** The app has answered without a stream: nothing is left open. */
  async #withoutStream({ streamId, remote }: Handling): Promise<void> {
    const { log } = this.#options
    this.#running.delete(streamId)
    if (remote) await log.append(streamId, 'end', '', false)
    else log.forget(streamId)
  }

  async #isKnown(streamId: string): Promise<boolean> {
    const { store, sessionId } = this.#options
    const page = await store.read({ sessionId, streamId, after: 0, limit: 1 })
    return page.events.length > 0
  }

  /** The call was made at an owner that is gone, and has been dealt with: only its stream is left to be read. */
  async #resume(request: AppRequest, how: Handling): Promise<OwnerAnswer> {
    const { sessionId, local, primes, attach } = this.#options
    const allowed = await local.authorise(request)
    if (allowed.status !== 200) return allowed
    const { streamId } = how
    const stream = { streamId, after: 0, finite: !this.has(streamId), priming: primes(request) }
    return attach(stream, streamHeaders(allowed.headers, sessionId), how)
  }

  #begin(streamId: string, requests: readonly Request[], request: AppRequest): Running {
    const { local, settings, log, ids, pace, onAnswered, onEnd } = this.#options
    const call: Call = new Call({
      streamId,
      requests,
      local,
      log,
      ids,
      pace,
      onAnswered,
      onCut: () => void log.cut(streamId, settings.retryInterval),
      onBroken: () => void this.#lost(running),
      onEnd: () => {
        if (this.#running.get(streamId)?.call === call) this.#running.delete(streamId)
        onEnd()
      },
      logger: settings.logger,
    })
    const running: Running = { call, request }
    this.#running.set(streamId, running)
    return running
  }
}

/** What a later owner needs to run the request again, or to answer it with an error. */
function openPayload(request: AppRequest): string {
  return Buffer.from(request.body ?? '').toString()
}
