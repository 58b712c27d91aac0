import { type App, type AppRequest, type AppResponse, isAppGone, isEventStream } from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { Stop, type StopSignal } from '../../stop.ts'
import { pump } from './read-app-stream.ts'

// Milliseconds that the head of the first stream is waited for: many servers send it with the first event, which may
// never come. An app in this process has seen the request long before.
const HEAD = 250
// Milliseconds between two attempts, at the most.
const MAX_WAIT = 5000

export interface TapOptions {
  readonly app: App
  readonly sessionId: string
  /** A standalone GET in the name of whoever was last accepted by the app. */
  readonly request: (lastEventId: string | undefined, signal: StopSignal) => AppRequest
  /** Whoever was last accepted by the app: another object each time. */
  readonly caller: () => object
  readonly onMessage: (data: string) => Promise<void> | undefined
  readonly pace: () => Promise<void> | undefined
  /** The app ended the stream (`closeStandaloneSSEStream`): the client's own is to end too. */
  readonly onCut: () => void
  /** An app in another process, or the connection to it, is gone; or it has ended the stream and does not open it again. */
  readonly onBroken: () => void
  readonly signal: StopSignal
  readonly logger: Logger
}

/**
 * The owner's own standalone GET, open as long as the session is live, so that what the app sends outside of any call
 * is stored whether or not a client listens. Resolves when the app has answered the first GET, or has had a moment for it.
 */
export async function openTap(options: TapOptions): Promise<void> {
  const tap = new Tap(options)
  await Promise.race([tap.opened, delay(HEAD)])
}

type Head = { readonly response: AppResponse } | { readonly status: number } | { readonly error: unknown }

class Tap {
  readonly #options: TapOptions
  readonly opened: Promise<unknown>
  #lastEventId: string | undefined
  /** Milliseconds until the next attempt: 0 after a stream that lived, then 50, 100, 200 … 5,000. */
  #wait = 0
  /** Attempts in a row that came to nothing. */
  #failures = 0
  #lived = false

  constructor(options: TapOptions) {
    this.#options = options
    this.opened = this.#follow()
  }

  /** Settles with the first head; the rest goes on by itself. Neither rejects. */
  #follow(): Promise<unknown> {
    const first = this.#connect()
    void this.#run(first)
    return first
  }

  async #run(first: Promise<Head>): Promise<void> {
    const { signal } = this.#options
    for (let head = first; await this.#read(await head); head = this.#connect()) {
      if (this.#wait > 50) await delay(this.#wait)
      if (signal.stopped) return
    }
  }

  async #connect(): Promise<Head> {
    const { app, request, signal } = this.#options
    // Of this attempt alone, so that nothing of it stays with the session's own when it is over.
    const stop = new Stop()
    const forget = signal.onStop(() => stop.stop())
    try {
      const response = await app.fetch(request(this.#lastEventId, stop))
      if (isEventStream(response)) return { response }
      response.cancel()
      return { status: response.status }
    } catch (error) {
      return { error }
    } finally {
      forget()
    }
  }

  /** False: the app has no such stream, or nobody wants it any more. */
  async #read(head: Head): Promise<boolean> {
    const { app, signal, onCut, onBroken, logger, sessionId } = this.#options
    if ('response' in head) {
      if (signal.stopped) {
        head.response.cancel()
        return false
      }
      const since = monotonicNow()
      this.#failures = 0
      this.#lived = true
      try {
        await pump(head.response, { ...this.#options, onId: (id) => this.#resumeAt(id) })
      } catch (error) {
        if (!signal.stopped) this.#broke(error, 'broke off')
      }
      if (signal.stopped) return false
      onCut()
      if (monotonicNow() - since > 1000) this.#wait = 0
      else this.#backOff()
      return true
    }
    if (signal.stopped) return false
    if ('error' in head) this.#broke(head.error, 'cannot be read')
    else if (!isPassing(head.status)) {
      const facts = { sessionId, status: head.status }
      // 405 is what it says if it has none, by the protocol. After a stream that lived: its session is over.
      if (head.status === 405 || this.#lived) logger.debug(facts, 'the app has no standalone stream')
      else logger.warn(facts, 'the app has no standalone stream: what it sends outside of calls is lost')
      if (this.#lived && app.presence) onBroken()
      return false
    } else this.#failed({ status: head.status }, 'was refused')
    this.#backOff()
    if ('status' in head && (head.status === 401 || head.status === 403)) await this.#nextCaller()
    return true
  }

  /** Nobody whom the app accepts is known: until somebody is, asking again would be refused again. */
  async #nextCaller(): Promise<void> {
    const { caller, signal } = this.#options
    for (const refused = caller(); caller() === refused && !signal.stopped; ) await delay(MAX_WAIT / 5)
  }

  #backOff(): void {
    this.#wait = Math.min(this.#wait === 0 ? 50 : this.#wait * 2, MAX_WAIT)
  }

  #resumeAt(id: string): void {
    this.#lastEventId = id
  }

  #broke(error: unknown, what: string): void {
    if (isAppGone(error)) this.#options.onBroken()
    else this.#failed({ error: errorText(error) }, what)
  }

  /** Said aloud once for each time that it begins. */
  #failed(facts: object, what: string): void {
    const { logger, sessionId } = this.#options
    this.#failures += 1
    const level = this.#failures === 1 ? 'warn' : 'debug'
    logger[level]({ sessionId, ...facts }, `the standalone stream of the app ${what}; it is tried again`)
  }
}

/** Not now, or not for this caller; any other refusal says that there is no such stream. 409: the one before is still there. */
function isPassing(status: number): boolean {
  return [401, 403, 408, 409, 425, 429].includes(status) || (status >= 500 && status !== 501)
}
