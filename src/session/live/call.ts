import { type AppResponse, isAppGone, isEventStream } from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { Stop, type StopSignal } from '../../stop.ts'
import { cancelled, toPayload } from '../protocol/answer.ts'
import {
  errorResponse,
  idKey,
  isResponse,
  type Message,
  parseMessages,
  type Request,
} from '../protocol/json-rpc.ts'
import type { SessionLog } from '../streams/session-log.ts'
import { isBusy, type LocalApp } from './local-app.ts'
import { pump } from './read-app-stream.ts'
import type { RequestIds } from './request-ids.ts'

export interface CallOptions {
  readonly streamId: string
  readonly requests: readonly Request[]
  /** Does a client wait for the head of the answer? */
  readonly isAwaited: () => boolean
  readonly local: LocalApp
  readonly log: SessionLog
  readonly ids: RequestIds
  readonly pace: () => Promise<void> | undefined
  /** The app has answered a request; what this returns settles before the client learns it. */
  readonly onAnswered: (request: Request, response: Message) => Promise<void> | undefined
  /** The app asks its client to come again (`closeSSEStream`). */
  readonly onCut: () => void
  /** The app, or the connection to it, is gone before the last answer: whoever owns the session settles the call. */
  readonly onBroken: () => void
  /** Has the client an event id to come again with before the first message? */
  readonly primed: boolean
  readonly onEnd: () => void
  readonly logger: Logger
}

// Times in a row that the app may end a stream on which it says nothing, with waits of 0, 10, 20 … ms between them.
const MAX_SILENT = 50

/** Times in a row that it may be too busy to go on, with waits of 50, 100, 150 … ms between them. */
const MAX_BUSY = 10

// Milliseconds that the app gets to end a stream on which everything is said.
const LINGER = 1000

/** One POST with requests in it, from the app's first byte to the last answer, all of it through the log. */
export class Call {
  readonly streamId: string
  readonly #options: CallOptions
  readonly #open: Map<string, Request>
  readonly #stop = new Stop()
  #ended = false
  #abandoned = false
  #begun = false
  #resumed = false
  /** Something was said on its stream. */
  #said = false
  #linger: NodeJS.Timeout | undefined
  /** Monotonic ms: when somebody was last seen who waits for the answer. */
  lastFollowed = monotonicNow()

  constructor(options: CallOptions) {
    this.#options = options
    this.streamId = options.streamId
    this.#open = new Map(options.requests.map((request) => [idKey(request.id), request]))
  }

  get signal(): StopSignal {
    return this.#stop
  }

  /** Its answer is there, or nobody wants it any more. */
  get ended(): boolean {
    return this.#ended
  }

  /** A client waits for the app to begin to answer. */
  get isAwaited(): boolean {
    return !this.#begun && this.#options.isAwaited()
  }

  /** It was stopped in this process and is open in the log, for whoever owns the session next. */
  get abandoned(): boolean {
    return this.#abandoned
  }

  /** The app's stream is being read: the record is on its way. */
  get begun(): boolean {
    return this.#begun
  }

  /** What nobody has answered yet. */
  get open(): readonly Request[] {
    return [...this.#open.values()]
  }

  has(requestId: string | number): boolean {
    return this.#open.has(idKey(requestId))
  }

  /** Reads the app's stream to its end, and again where the app means its client to resume. Never rejects. */
  async run(response: AppResponse): Promise<void> {
    const { local, logger, pace, onCut, onBroken, primed } = this.#options
    this.#begun = true
    /** The id to come back with, and the last one of the response that is being read. */
    let lastEventId: string | undefined
    let heard: string | undefined
    const options = {
      pace,
      signal: this.#stop,
      onMessage: (data: string) => this.#onMessage(data),
      onId: (id: string) => {
        heard = id
      },
    }
    try {
      for (let silent = 0; ; silent += 1) {
        heard = undefined
        await pump(response, options).catch((error: unknown) => {
          // Only the connection may have broken. A client of the app itself would come back with that id, and so do we.
          if (!isAppGone(error) || (heard ?? lastEventId) === undefined) throw error
        })
        if (this.#ended || this.#stop.stopped) return
        // It may end a resumed stream before it has said anything: the id from before is still the one to come back with.
        if (heard !== undefined && heard !== lastEventId) silent = 0
        lastEventId = heard ?? lastEventId
        if (lastEventId === undefined || silent > MAX_SILENT) break
        // The app ended the stream without the answer, but gave an id to come back with. A client that has none could
        // not: it keeps its connection.
        if (primed || this.#said) onCut()
        if (silent > 0) await delay(silent * 10)
        this.#resumed = true
        const resumed = await this.#comeBack(lastEventId)
        if (!resumed) break
        response = resumed
      }
      // A server that shuts down in good order ends its streams first.
      if (local.app.presence) return onBroken()
      await this.fail('The server ended the stream without an answer.')
    } catch (error) {
      if (this.#stop.stopped) return
      if (isAppGone(error)) return onBroken()
      const facts = { sessionId: local.publicId, requestId: this.streamId, error: errorText(error) }
      logger.error(facts, 'the stream of a call broke off')
      await this.fail('The server broke off.')
    } finally {
      clearTimeout(this.#linger)
    }
  }

  /** The app's stream, after `lastEventId`; an app that is busy is asked again. Undefined: it does not have it any more. */
  async #comeBack(lastEventId: string): Promise<AppResponse | undefined> {
    const { local } = this.#options
    for (let busy = 1; ; busy += 1) {
      const response = await local.app.fetch(local.standaloneRequest(lastEventId, this.#stop))
      if (isEventStream(response)) return response
      response.cancel()
      if (!isBusy(response.status) || busy > MAX_BUSY || this.#stop.stopped) return undefined
      await delay(busy * 50)
    }
  }

  /** The client does not want the answer any more; the SDK never ends such a stream, so it is ended here. */
  async cancel(requestId: string | number): Promise<void> {
    if (!this.#open.delete(idKey(requestId)) || this.#open.size > 0) return
    await this.#end('end', toPayload(cancelled()))
  }

  /** Nobody has followed it for so long that nobody will: whoever comes back after all is told. No use of the session. */
  async giveUp(): Promise<void> {
    await this.fail('Nobody waited for the answer any more: the call was given up.', false)
    this.#stop.stop()
  }

  /** Answers what is still open with an error; its stream is the word to look for in the log. */
  async fail(reason: string, touch = true): Promise<void> {
    const { log } = this.#options
    const data = { requestId: this.streamId }
    const open = [...this.#open.values()]
    this.#open.clear()
    for (const request of open.slice(0, -1)) {
      await log.append(this.streamId, 'message', errorResponse(request.id, -32603, reason, data), touch)
    }
    const last = open.at(-1)
    if (last) await this.#end('final', errorResponse(last.id, -32603, reason, data), touch)
  }

  /** Stops reading; the log keeps the stream open, for whoever owns the session next. */
  abandon(): void {
    this.#ended = true
    this.#abandoned = true
    this.#stop.stop()
    this.#options.onEnd()
  }

  #onMessage(data: string): Promise<void> | undefined {
    if (this.#ended) return undefined
    const messages = parseMessages(data)
    // An answer to what was cancelled, or to nothing: nobody waits for it.
    const answers = messages.filter(isResponse).filter(({ id }) => this.#open.has(idKey(id)))
    const stored = answers
      .map((answer) => this.#options.onAnswered(this.#open.get(idKey(answer.id))!, answer))
      .filter((each) => each !== undefined)
    const pass = () => {
      for (const { id } of answers) this.#open.delete(idKey(id))
      this.#pass(data, messages, answers.length > 0)
    }
    if (stored.length > 0) return Promise.all(stored).then(pass)
    pass()
    return undefined
  }

  #pass(data: string, messages: readonly Message[], answered: boolean): void {
    if (this.#ended) return
    const { ids, log } = this.#options
    if (answered && this.#open.size === 0) return void this.#end('final', data)
    if (!answered && messages.length > 0 && messages.every(isResponse)) return
    this.#said = true
    void log.append(this.streamId, 'message', ids.mark(data, messages))
  }

  async #end(kind: 'final' | 'end', payload = '', touch = true): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    const { log, onEnd } = this.#options
    const stored = log.append(this.streamId, kind, payload, touch)
    // The v1 SDK never ends the replay of a stream that has its answer, nor the stream of a cancelled request; and other
    // apps may leave any stream open.
    if (kind === 'end' || this.#resumed) this.#stop.stop()
    else {
      this.#linger = setTimeout(() => this.#stop.stop(), LINGER)
      this.#linger.unref()
    }
    await stored
    onEnd()
  }
}
