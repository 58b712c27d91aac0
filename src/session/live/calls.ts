import { type AppRequest, type HeaderPairs, isEventStream } from '../../app/app.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { EventLog } from '../../store/store.ts'
import type { StreamRef } from '../cluster/letters.ts'
import { relayWhole, streamHeaders } from '../protocol/answer.ts'
import { type Message, parseMessage, type Request } from '../protocol/json-rpc.ts'
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
  readonly onEnd: () => void
}

/** The calls that run in one live session, by their streams. */
export class Calls {
  readonly #options: CallsOptions
  readonly #running = new Map<string, Call>()

  constructor(options: CallsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#running.size
  }

  has(streamId: string): boolean {
    return this.#running.has(streamId)
  }

  /** Rejects with `LocalSessionLost`, or with what the app threw. */
  async make(request: AppRequest, requests: readonly Request[], how: Handling): Promise<OwnerAnswer> {
    const { sessionId, local, log, primes, attach, onUse, onAnswered } = this.#options
    const { streamId, remote } = how
    if (how.again && (await this.#isKnown(streamId))) return this.#resume(request, how)
    const call = this.#begin(streamId, requests)
    try {
      // Another node waits for this call. Should this one die, that one looks for the record and knows that the app may
      // have been called; here at home the client's connection dies with the process, and the record can wait.
      log.begin(streamId)
      if (remote) await log.append(streamId, 'open', openPayload(request), false)
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
      await this.#withoutStream(how)
      throw error
    }
  }

  /** Runs a request again that its last owner did not finish; its answer goes into the stream it was opened with. */
  async rerun(request: AppRequest, requests: readonly Request[], streamId: string): Promise<void> {
    const { sessionId, local, log, settings } = this.#options
    const call = this.#begin(streamId, requests)
    try {
      const response = await local.fetch(request)
      if (isEventStream(response)) return void call.run(response)
      const answer = await relayWhole(response, sessionId)
      const text = answer.body.toString()
      if (!parseMessage(text))
        return void (await call.fail(`The server answered with status ${answer.status}.`))
      await log.append(streamId, 'final', text)
      this.#running.delete(streamId)
    } catch (error) {
      const facts = { sessionId, requestId: streamId, error: errorText(error) }
      settings.logger.error(facts, 'a lost call could not be run again')
      await call.fail('The server could not run it again.')
    }
  }

  async cancel(requestId: string | number): Promise<void> {
    for (const call of this.#running.values()) if (call.has(requestId)) await call.cancel(requestId)
  }

  /** Stops reading; the log keeps the streams open, for whoever owns the session next. */
  abandon(): void {
    for (const call of this.#running.values()) call.abandon()
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

  #begin(streamId: string, requests: readonly Request[]): Call {
    const { local, settings, log, ids, pace, onAnswered, onEnd } = this.#options
    const call = new Call({
      streamId,
      requests,
      local,
      log,
      ids,
      pace,
      onAnswered,
      onCut: () => void log.cut(streamId, settings.retryInterval),
      onEnd: () => {
        this.#running.delete(streamId)
        onEnd()
      },
      logger: settings.logger,
    })
    this.#running.set(streamId, call)
    return call
  }
}

/** What a later owner needs to run the request again, or to answer it with an error. */
function openPayload(request: AppRequest): string {
  return Buffer.from(request.body ?? '').toString()
}
