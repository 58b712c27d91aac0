import { randomBytes } from 'node:crypto'
import {
  type App,
  type AppRequest,
  type AppResponse,
  isEventStream,
  OF_ONE_REQUEST,
  readBody,
} from '../../app/app.ts'
import { hopByHop } from '../../app/hop-by-hop.ts'
import { PersistError } from '../../errors.ts'
import type { Refusal, Settings } from '../../options.ts'
import { eventReader } from '../../sse.ts'
import type { StopSignal } from '../../stop.ts'
import { type Answer, refuse, relayWhole } from '../protocol/answer.ts'
import { isResponse, type Message, parseMessages } from '../protocol/json-rpc.ts'
import { type Principals, viewOf } from '../protocol/principal.ts'
import { AppSilent, askApp, stoppable } from './ask-app.ts'
import { type Binding, NotTheirs } from './binding.ts'

/** Headers that speak of the client's connection or of our own streams, and mean nothing to the app. */
const NOT_FOR_THE_APP = new Set([
  'last-event-id',
  'accept-encoding',
  'connection',
  'transfer-encoding',
  'content-length',
  'expect',
])

/** Headers that speak of what the client has sent, and would be wrong about what we say with its other headers. */
const OF_ONE_MESSAGE =
  /^(?:content-(?:encoding|md5|digest|language|location|range)|(?:repr-|want-)?digest|if-.*|range|x-http-method.*)$/

/** Thrown when the app does not know its own session any more (swept, restarted): it must be rehydrated. */
export class LocalSessionLost extends Error {
  /**
   * It was met by a call, whose stream has ended with it: whoever follows the next try must not find that end in the log. So
   * that is made under this name, and the end of the first one says so, to whoever knows only that.
   */
  nextStreamId: string | undefined
  /** The store did not take that end: the call is open in the log, and settled by whoever has the session next. */
  made: 'recorded' | undefined
}

export interface LocalAppOptions {
  readonly app: App
  readonly settings: Settings
  /** The id of the app's own session; the client may know another. */
  readonly sessionId: string
  /** The id the client knows. */
  readonly publicId: string
  readonly caller: AppRequest
  readonly binding: Binding
}

/** In whose name something is asked, and until when. */
export interface Asking {
  /** Undefined: in the name of the caller whom the app accepted last. */
  readonly principal?: Principals | undefined
  readonly signal?: StopSignal | undefined
}

/** Everything that is said to the app for one session: under the id the app knows, in the name of some caller. */
export class LocalApp {
  readonly #options: LocalAppOptions
  /** The last request that the app accepted: for what is said to the app when nobody is calling. */
  #caller: AppRequest
  /** Our own ids: a client has ids too, in the same space. */
  readonly #prefix = `mcp-persist-${randomBytes(6).toString('base64url')}-`
  #asked = 0

  constructor(options: LocalAppOptions) {
    this.#options = options
    this.#caller = callerOf(options.caller)
  }

  get app(): App {
    return this.#options.app
  }

  get sessionId(): string {
    return this.#options.sessionId
  }

  get publicId(): string {
    return this.#options.publicId
  }

  get binding(): Binding {
    return this.#options.binding
  }

  get caller(): AppRequest {
    return this.#caller
  }

  /** Milliseconds that we wait for the app when we ask it something of our own. */
  get patience(): number {
    return patienceOf(this.#options.settings)
  }

  /**
   * Passes a request on; the client may go away, and the call goes on until `signal` says stop.
   * Rejects with `LocalSessionLost` when the app does not know its session any more, and with `NotTheirs`.
   */
  async fetch(request: AppRequest, { principal, signal }: Asking = {}): Promise<AppResponse> {
    // Before there is a head nothing else tells the app that nobody waits any more.
    const sent = this.app.fetch({ ...request, headers: this.#headers(request), signal })
    const response = await stoppable(sent, signal)
    await this.#judge(response, request, principal)
    return response
  }

  /**
   * The app's word on whether it would serve this caller: status 200, or the refusal to relay. Rejects with
   * `LocalSessionLost`, `NotTheirs` or `AppSilent`.
   */
  async authorise(caller: AppRequest, principal: Principals): Promise<Answer> {
    const { authorise } = this.#options.settings
    if (authorise) {
      // It says nothing of who asks, and nobody else may be asked.
      if (this.binding.onlyTheAppKnows) throw new NotTheirs()
      return toAnswer(await authorise(viewOf(caller)))
    }
    const response = await this.#ping(caller)
    await this.#judge(response, caller, principal)
    return relayWhole(response, this.publicId)
  }

  /**
   * A request of our own and its answer, in the name of the last accepted caller. Rejects with `AppSilent`, also when the
   * app refuses to answer: no answer is not an empty one.
   */
  async ask(method: string, params?: object, signal?: StopSignal): Promise<Message> {
    const response = await this.#post({ ...this.#request(method), ...(params && { params }) }, { signal })
    const answer = (await readMessages(response, this.patience, signal)).find(isResponse)
    if (!answer) throw new AppSilent()
    return answer
  }

  /** Rejects with `AppSilent`, also when the app does not accept it. */
  async notify(method: string, signal?: StopSignal): Promise<void> {
    const response = await this.#post({ jsonrpc: '2.0', method }, { signal })
    response.cancel()
    if (response.status >= 300) throw new AppSilent()
  }

  /** After a connection to the app broke: is it there, and does it still know its session? Never rejects. */
  async survives(): Promise<boolean> {
    if (await this.app.presence?.check()) return false
    return this.#isLost(this.#caller).then(
      (lost) => lost !== true,
      () => false,
    )
  }

  standaloneRequest(lastEventId: string | undefined, signal?: StopSignal): AppRequest {
    const headers: Record<string, string> = { ...ownHeaders(this.#caller), accept: 'text/event-stream' }
    delete headers['content-type']
    headers['mcp-session-id'] = this.sessionId
    if (lastEventId !== undefined) headers['last-event-id'] = lastEventId
    const { url, remote, authInfo } = this.#caller
    return { method: 'GET', url, headers, remote, authInfo, signal }
  }

  /** Lets the app forget its session. Rejects when it is too busy for that; any other refusal will not change. */
  async delete(): Promise<void> {
    const headers = { ...ownHeaders(this.#caller), 'mcp-session-id': this.sessionId }
    const { url, remote, authInfo } = this.#caller
    const request = { method: 'DELETE', url, headers, remote, authInfo }
    const { patience } = this
    const response = await askApp(this.app, request, { patience })
    response.cancel()
    const { status } = response
    if ([408, 425, 429].includes(status) || (status >= 500 && status !== 501))
      throw new Error(`The app answered with status ${status}.`)
  }

  /**
   * What an answer means for the session. Accepted: its caller is who we speak for from now on. 404 or 400: a bad request, a
   * route that is not there, somebody whom the app will not have here; or an app that has lost the session. That is
   * asked in the name of the caller whom it accepted last, and in nobody else's.
   */
  async #judge(response: AppResponse, request: AppRequest, principal: Principals | undefined): Promise<void> {
    const { status, authInfo } = response
    if (status < 300) {
      const { binding } = this
      if (!principal) return
      if (!binding.isTheirs(authInfo)) {
        response.cancel()
        throw new NotTheirs()
      }
      this.#caller = callerOf(request)
      await binding.accepted(request, principal, authInfo)
    } else if (isUnknown(status)) {
      const lost = await this.#isLost(request)
      if (lost === false) return
      response.cancel()
      throw lost ? new LocalSessionLost() : new AppSilent()
    }
  }

  /** Undefined: the app is too busy to say. */
  async #isLost(request: AppRequest): Promise<boolean | undefined> {
    const status = await this.#statusOf(this.#caller)
    if (isUnknown(status)) return true
    if (isBusy(status)) return undefined
    if (status !== 401 && status !== 403) return false
    // The token of the caller accepted last has run out. Somebody who was verified in front of us can speak for the session.
    if (this.binding.verifiedInFront) return isUnknown(await this.#statusOf(request))
    const facts = { sessionId: this.publicId, status }
    this.#options.settings.logger.warn(
      facts,
      'whether the app still has this session cannot be asked: it does not accept its last caller any more',
    )
    return false
  }

  async #statusOf(caller: AppRequest): Promise<number> {
    const response = await this.#ping(caller)
    response.cancel()
    return response.status
  }

  /** Passes all of the app's middleware, and changes nothing. */
  #ping(caller: AppRequest): Promise<AppResponse> {
    return this.#post(this.#request('ping'), { caller })
  }

  #request(method: string): object {
    this.#asked += 1
    return { jsonrpc: '2.0', id: `${this.#prefix}${this.#asked}`, method }
  }

  #post(
    message: object,
    { caller = this.#caller, signal }: { caller?: AppRequest; signal?: StopSignal | undefined },
  ): Promise<AppResponse> {
    const { patience } = this
    return askApp(this.app, ownPost(caller, message, { 'mcp-session-id': this.sessionId }), {
      patience,
      signal,
    })
  }

  #headers(request: AppRequest): Record<string, string> {
    const headers = forApp(request)
    headers['mcp-session-id'] = this.sessionId
    return headers
  }
}

/** What the option `authorise` has said. Anything else than its type allows is a mistake, and no answer to a client. */
function toAnswer(verdict: boolean | Refusal): Answer {
  if (verdict === true) return { status: 200, headers: [], body: '' }
  if (verdict === false) return refuse(403, 'Forbidden')
  const { status, headers = {}, body = '' } = verdict ?? {}
  if (Number.isInteger(status) && status >= 200 && status <= 599 && typeof body === 'string')
    return { status, headers: Object.entries(headers), body }
  const way = 'let it return true, false, or { status, headers?, body? }'
  throw new PersistError('INVALID_ARGUMENT', `The option "authorise" returned something else; ${way}.`)
}

/** It has too much to do, or is out of order for the moment: no word on anything else. */
export function isBusy(status: number): boolean {
  return status === 429 || status >= 500
}

/** 404; or 400, from apps that do not tell a bad request from an unknown session. */
function isUnknown(status: number): boolean {
  return status === 404 || status === 400
}

/** Milliseconds that we wait for the app when we ask it something of our own. */
export function patienceOf({ lease }: Settings): number {
  return Math.max(lease * 2, 2000)
}

/** A POST of one message that we say ourselves, with the headers of `caller`. */
export function ownPost(
  caller: AppRequest,
  message: object,
  headers: Record<string, string> = {},
  sessionId?: string,
): AppRequest {
  const { url, remote, authInfo } = caller
  const own = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...headers,
  }
  const body = Buffer.from(JSON.stringify(message))
  const base = ownHeaders(caller)
  delete base['mcp-session-id']
  return {
    method: 'POST',
    url,
    headers: { ...base, ...own },
    body,
    parsed: message,
    remote,
    authInfo,
    sessionId,
  }
}

/** The headers of `caller`, for something else than it has sent. */
function ownHeaders(caller: AppRequest): Record<string, string> {
  const headers = forApp(caller)
  for (const name in headers) if (OF_ONE_MESSAGE.test(name)) delete headers[name]
  return headers
}

function forApp({ headers }: AppRequest): Record<string, string> {
  const kept: Record<string, string> = {}
  const ends = hopByHop(headers['connection'])
  for (const name in headers) if (!NOT_FOR_THE_APP.has(name) && !ends(name)) kept[name] = headers[name]!
  return kept
}

/** Every message of a response that is read to its end at once, or until `patience` ms are over. */
export async function readMessages(
  response: AppResponse,
  patience = Number.POSITIVE_INFINITY,
  signal?: StopSignal,
): Promise<readonly Message[]> {
  const timer = patience < 2 ** 31 ? setTimeout(() => response.cancel(), patience) : undefined
  timer?.unref()
  const forget = signal?.onStop(() => response.cancel())
  try {
    return await readAll(response)
  } finally {
    clearTimeout(timer)
    forget?.()
  }
}

async function readAll(response: AppResponse): Promise<readonly Message[]> {
  if (!isEventStream(response)) return parseMessages((await readBody(response)).toString())
  const messages: Message[] = []
  const read = eventReader()
  for await (const chunk of response.body) {
    for (const { data } of read(chunk)) messages.push(...parseMessages(data))
    // The SDK's v1 transport may leave a stream open behind its last answer.
    if (messages.some(isResponse)) break
  }
  response.cancel()
  return messages
}

/** Who asks, without what was asked. */
export function callerOf({ method, url, headers, remote, authInfo }: AppRequest): AppRequest {
  // Of nearly all requests nothing has to go, and this is done for each.
  let kept = headers
  for (const name in headers) {
    if (!OF_ONE_REQUEST.has(name)) continue
    kept = Object.fromEntries(Object.entries(headers).filter(([each]) => !OF_ONE_REQUEST.has(each)))
    break
  }
  return { method, url, headers: kept, remote, authInfo }
}
