import { type App, type AppRequest, type AppResponse, isEventStream, readBody } from '../../app/app.ts'
import { hopByHop } from '../../app/hop-by-hop.ts'
import { withTimeout } from '../../clock.ts'
import { readEvents } from '../../sse.ts'
import type { StopSignal } from '../../stop.ts'
import { type Answer, relayWhole } from '../protocol/answer.ts'
import { isResponse, type Message, parseMessage } from '../protocol/json-rpc.ts'

/** Headers that speak of the client's connection or of our own streams, and mean nothing to the app. */
const NOT_FOR_THE_APP = new Set([
  'last-event-id',
  'accept-encoding',
  'connection',
  'transfer-encoding',
  'content-length',
  'expect',
])

// Milliseconds.
const ALIVE = 5000

/** Thrown when the app does not know its own session any more (swept, restarted): it must be rehydrated. */
export class LocalSessionLost extends Error {}

/** Everything that is said to the app for one session: under the id the app knows, in the name of some caller. */
export class LocalApp {
  readonly #app: App
  /** The id of the app's own session; the client may know another. */
  readonly sessionId: string
  /** The id the client knows. */
  readonly publicId: string
  /** The last request that the app accepted: for what is said to the app when nobody is calling. */
  #caller: AppRequest
  #pings = 0

  constructor(app: App, sessionId: string, publicId: string, caller: AppRequest) {
    this.#app = app
    this.sessionId = sessionId
    this.publicId = publicId
    this.#caller = callerOf(caller)
  }

  get app(): App {
    return this.#app
  }

  get caller(): AppRequest {
    return this.#caller
  }

  /**
   * Passes a request on; the client may go away, and the call goes on until `signal` says stop.
   * Rejects with `LocalSessionLost` when the app does not know its session any more.
   */
  async fetch(request: AppRequest, signal?: StopSignal): Promise<AppResponse> {
    // What holds a connection has to let go of it at once; for an app in this process a signal costs more than it saves.
    const forSocket = this.#app.presence && signal
    const sent = this.#app.fetch({ ...request, headers: this.#headers(request), signal: forSocket })
    const response = await stoppable(sent, signal)
    if (response.status === 404 || (response.status === 400 && (await this.#isLost()))) {
      response.cancel()
      throw new LocalSessionLost()
    }
    if (response.status < 300) this.#caller = callerOf(request)
    return response
  }

  /** The app's word on whether it would serve this caller: status 200, or the refusal to relay. */
  async authorise(caller: AppRequest): Promise<Answer> {
    const response = await this.#ping(caller)
    if (response.status === 404 || (response.status === 400 && (await this.#isLost()))) {
      response.cancel()
      throw new LocalSessionLost()
    }
    if (response.status === 200) this.#caller = callerOf(caller)
    return relayWhole(response, this.publicId)
  }

  /** A request of our own, in the name of `caller` (default: the last accepted one). */
  post(message: object, caller = this.#caller): Promise<AppResponse> {
    return this.#app.fetch(ownPost(caller, message, { 'mcp-session-id': this.sessionId }))
  }

  /** Passes all of the app's middleware, and changes nothing. */
  #ping(caller: AppRequest): Promise<AppResponse> {
    this.#pings += 1
    return this.post({ jsonrpc: '2.0', id: `ping-${this.#pings}`, method: 'ping' }, caller)
  }

  /** 400 may mean a bad request or, in apps that do not tell the two apart, that the session is unknown. */
  async #isLost(): Promise<boolean> {
    const response = await this.#ping(this.#caller)
    response.cancel()
    return response.status === 400 || response.status === 404
  }

  /** After a connection to the app broke: is it there, and does it still know its session? */
  async survives(): Promise<boolean> {
    if (await this.#app.presence?.check()) return false
    const late = () => new Error(`The app did not answer within ${ALIVE} ms.`)
    return withTimeout(this.#isLost(), ALIVE, late).then(
      (lost) => !lost,
      () => false,
    )
  }

  standaloneRequest(lastEventId: string | undefined): AppRequest {
    const headers: Record<string, string> = { ...this.#headers(this.#caller), accept: 'text/event-stream' }
    delete headers['content-type']
    if (lastEventId !== undefined) headers['last-event-id'] = lastEventId
    const { url, remote, authInfo } = this.#caller
    return { method: 'GET', url, headers, remote, authInfo }
  }

  /** Lets the app forget its session. */
  async delete(): Promise<void> {
    const headers = this.#headers(this.#caller)
    const { url, remote, authInfo } = this.#caller
    const response = await this.#app.fetch({
      method: 'DELETE',
      url,
      headers,
      remote,
      authInfo,
    })
    response.cancel()
  }

  #headers(request: AppRequest): Record<string, string> {
    const headers = forApp(request)
    headers['mcp-session-id'] = this.sessionId
    return headers
  }
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
  const base = forApp(caller)
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

function forApp({ headers }: AppRequest): Record<string, string> {
  const kept: Record<string, string> = {}
  const ends = hopByHop(headers['connection'])
  for (const name in headers) if (!NOT_FOR_THE_APP.has(name) && !ends(name)) kept[name] = headers[name]!
  return kept
}

/** Every message of a response that is read to its end at once. */
export async function readMessages(response: AppResponse): Promise<readonly Message[]> {
  const messages: Message[] = []
  if (isEventStream(response)) {
    for await (const events of readEvents(response.body)) {
      for (const { data } of events) {
        const message = parseMessage(data)
        if (message) messages.push(message)
      }
      // The SDK's v1 transport may leave a stream open behind its last answer.
      if (messages.some(isResponse)) break
    }
    response.cancel()
  } else {
    const message = parseMessage((await readBody(response)).toString())
    if (message) messages.push(message)
  }
  return messages
}

/** Who asks, without what was asked. */
export function callerOf({ method, url, headers, remote, authInfo }: AppRequest): AppRequest {
  return { method, url, headers, remote, authInfo }
}

function stoppable(promise: Promise<AppResponse>, signal: StopSignal | undefined): Promise<AppResponse> {
  if (!signal) return promise
  return new Promise((resolve, reject) => {
    const forget = signal.onStop(() => {
      reject(new Error('The call was cancelled.'))
      // An answer that comes all the same is read by nobody.
      promise.then(
        (late) => late.cancel(),
        () => {},
      )
    })
    promise.then(resolve, reject).finally(forget)
  })
}
