import http, { type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import https from 'node:https'
import type { Duplex, Readable } from 'node:stream'
import { urlToHttpOptions } from 'node:url'
import { errorText } from '../../errors.ts'
import type { StopSignal } from '../../stop.ts'
import { AppAway, AppBrokeOff } from '../app.ts'
import { Watch } from './presence.ts'

// Milliseconds.
const CONNECT = 5000
/** A connection that lies unused longer than this is closed, before the server behind us does it in the wrong moment. */
const UNUSED = 4000
/** A server that took the connection and says nothing is there: it is busy. */
const SILENT = 1000
const MAX_UNUSED = 64

export interface Sent {
  readonly method: string
  /** The request's target, in whatever form the client wrote it. */
  readonly target: string
  readonly headers: OutgoingHttpHeaders
  readonly body?: Uint8Array | Readable | undefined
  /** Of a body that is streamed; asked when it has ended. */
  readonly trailers?: () => OutgoingHttpHeaders
  readonly onInformation?: (information: http.InformationEvent) => void
  /** Said when nobody wants the response any more, its body included. */
  readonly signal?: StopSignal | undefined
  /** May be sent twice, where a connection that lay unused turns out to be dead. */
  readonly repeatable?: boolean
}

/** The answer to an upgrade: another protocol on that socket, or a refusal like any other response. */
export type Upgraded =
  | { readonly response: IncomingMessage; readonly socket: Duplex; readonly head: Buffer }
  | { readonly response: IncomingMessage; readonly socket?: undefined }

/**
 * The one server that a `{ url }` names. Its host, port and protocol are fixed here: nothing in a request is ever resolved
 * against them. `node:http` rather than the global `fetch`, which ends a response that is silent for five minutes, as an idle
 * stream may well be.
 */
export class Upstream {
  readonly presence = new Watch(() => this.#reach())
  /** Without path and credentials. */
  readonly origin: string
  readonly #path: string
  readonly #send: typeof http.request
  readonly #agent: http.Agent
  readonly #destination: http.RequestOptions
  readonly #connected: 'secureConnect' | 'connect'

  constructor(url: URL) {
    this.origin = url.origin
    this.#path = url.pathname
    const secure = url.protocol === 'https:'
    this.#send = secure ? https.request : http.request
    this.#connected = secure ? 'secureConnect' : 'connect'
    // The time-out of an agent closes unused connections only; those in use are left alone.
    const pool = { keepAlive: true, maxFreeSockets: MAX_UNUSED, timeout: UNUSED }
    this.#agent = secure ? new https.Agent(pool) : new http.Agent(pool)
    const { protocol, hostname, port, auth } = urlToHttpOptions(url)
    this.#destination = { protocol, hostname, port, ...(auth && { auth }) }
  }

  /** Settles with the head of the response. Rejects with `AppAway` or `AppBrokeOff`. */
  async request(sent: Sent): Promise<IncomingMessage> {
    if (this.presence.away) throw new AppAway(`${this.origin} is away.`)
    const { response } = await this.#exchange(sent).catch((error: unknown) => {
      const { signal, repeatable, body } = sent
      const replay = repeatable && !isStream(body) && !signal?.stopped && error instanceof Stale
      if (!replay) throw error
      return this.#exchange(sent)
    })
    return response
  }

  /** Over a connection of its own. Rejects as `request` does. */
  async upgrade(sent: Sent): Promise<Upgraded> {
    if (this.presence.away) throw new AppAway(`${this.origin} is away.`)
    return this.#exchange(sent, false)
  }

  /** A response broke in its middle: that may be the connection's fault, or there is no server any more. */
  brokeOff(error: unknown): AppBrokeOff {
    void this.presence.check()
    return new AppBrokeOff(`${this.origin} broke off its answer: ${errorText(error)}`, { cause: error })
  }

  close(): void {
    this.presence.close()
    this.#agent.destroy()
  }

  #exchange(sent: Sent, agent: http.Agent | false = this.#agent): Promise<Upgraded> {
    return new Promise((resolve, reject) => {
      const { signal } = sent
      const outgoing = this.#open(sent.method, sent.target, sent.headers, agent)
      let connected = false
      whenConnected(outgoing, this.#connected, () => {
        connected = true
      })
      outgoing.once('response', (response) => resolve({ response }))
      outgoing.once('upgrade', (response, socket, head) => resolve({ response, socket, head }))
      if (sent.onInformation) outgoing.on('information', sent.onInformation)
      // One that comes after the response is the response's own, and is told by its body.
      outgoing.on('error', (cause) => {
        const what = `${this.origin}: ${errorText(cause)}`
        if (!connected) reject(new AppAway(`No connection to ${what}`, { cause }))
        else if (outgoing.reusedSocket) reject(new Stale(`The connection broke to ${what}`, { cause }))
        else reject(new AppBrokeOff(`The connection broke to ${what}`, { cause }))
        if (!signal?.stopped) void this.presence.check()
      })
      // Until the response has been read to its end, or is destroyed.
      const forget = signal?.onStop(() => outgoing.destroy())
      outgoing.once('close', () => forget?.())
      feed(outgoing, sent)
    })
  }

  #open(method: string, target: string, headers: OutgoingHttpHeaders, agent: http.Agent | false) {
    return this.#send({ ...this.#destination, method, path: pathOf(target), headers, agent })
  }

  /** Any answer at all will do, and so will a connection that lasts. */
  #reach(): Promise<void> {
    return new Promise((resolve, reject) => {
      const outgoing = this.#open('OPTIONS', this.#path, {}, false)
      let timer: NodeJS.Timeout | undefined
      whenConnected(outgoing, this.#connected, () => {
        timer = setTimeout(() => done(), SILENT)
        timer.unref()
      })
      const done = (error?: Error) => {
        clearTimeout(timer)
        if (error) reject(error)
        else resolve()
        outgoing.destroy()
      }
      outgoing.once('response', () => done())
      outgoing.on('error', done)
      outgoing.end()
    })
  }
}

/** The connection lay in the pool: it may have been dead before the request was written to it. */
class Stale extends AppBrokeOff {}

/** Connecting has a time limit; what a call takes after that is the server's own affair. */
function whenConnected(
  outgoing: ClientRequest,
  event: 'secureConnect' | 'connect',
  callback: () => void,
): void {
  outgoing.once('socket', (socket) => {
    if (outgoing.reusedSocket) return callback()
    const timer = setTimeout(() => {
      outgoing.destroy(new Error(`no connection within ${CONNECT} ms`))
    }, CONNECT)
    timer.unref()
    socket.once(event, () => {
      clearTimeout(timer)
      callback()
    })
    outgoing.once('close', () => clearTimeout(timer))
  })
}

function feed(outgoing: ClientRequest, { body, trailers }: Sent): void {
  if (!isStream(body)) {
    outgoing.end(body)
    return
  }
  // Not `pipeline`: a server that answers before it has read everything must not cost the client its connection.
  body.pipe(outgoing, { end: false })
  body.once('end', () => {
    if (trailers) outgoing.addTrailers(trailers())
    outgoing.end()
  })
  body.on('error', () => outgoing.destroy())
  body.once('close', () => {
    if (!body.readableEnded) outgoing.destroy()
  })
}

function isStream(body: Sent['body']): body is Readable {
  return body !== undefined && 'pipe' in body
}

/**
 * Path and query of a request's target. A host that stands in it (`http://host/path`) is dropped; what merely looks like one
 * (`//host`, `/\host`, `@host`) is a path like any other; what cannot stand in a request line is percent-encoded.
 */
export function pathOf(target: string): string {
  if (target === '*') return target
  const path = target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#\\]*/i, '').replace(/#.*$/s, '')
  const rooted = path.startsWith('/') ? path : `/${path}`
  return rooted.replace(/[^\x21-\x7e\x80-\xff]/gu, (char) =>
    Buffer.from(char).toString('hex').replace(/../g, '%$&'),
  )
}
