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
const POOL = { keepAlive: true, maxFreeSockets: MAX_UNUSED, timeout: UNUSED }

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

interface Opened extends Pick<Sent, 'method' | 'target' | 'headers'> {
  /** False: over a connection of its own. */
  readonly pooled: boolean
}

/** The answer to an upgrade: another protocol on that socket, or a refusal like any other response. */
export type Upgraded =
  | { readonly response: IncomingMessage; readonly socket: Duplex; readonly head: Buffer }
  | { readonly response: IncomingMessage; readonly socket?: undefined }

/** Where a server is. A function: of one that gets another port with each start; undefined while it has none. */
export type Place = URL | (() => URL | undefined)

/**
 * The one server that a `{ url }` names. Its host, port and protocol are said here: nothing in a request is ever resolved
 * against them. `node:http` rather than the global `fetch`, which ends a response that is silent for five minutes, as an idle
 * stream may well be.
 */
export class Upstream {
  readonly presence = new Watch(() => this.reach())
  readonly #place: () => URL | undefined
  // The time-out of an agent closes unused connections only; those in use are left alone.
  readonly #http = new http.Agent(POOL)
  readonly #https = new https.Agent(POOL)

  constructor(place: Place) {
    this.#place = typeof place === 'function' ? place : () => place
  }

  /** Without path and credentials. */
  get origin(): string {
    return this.#place()?.origin ?? 'The server'
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
    return this.#exchange(sent, { pooled: false })
  }

  /** A response broke in its middle: that may be the connection's fault, or there is no server any more. */
  brokeOff(error: unknown): AppBrokeOff {
    void this.presence.check()
    return new AppBrokeOff(`${this.origin} broke off its answer: ${errorText(error)}`, { cause: error })
  }

  close(): void {
    this.presence.close()
    this.#http.destroy()
    this.#https.destroy()
  }

  #exchange(sent: Sent, { pooled } = { pooled: true }): Promise<Upgraded> {
    if (!this.#place()) void this.presence.check()
    return new Promise((resolve, reject) => {
      const { signal } = sent
      const outgoing = this.#open({ ...sent, pooled })
      let connected = false
      whenConnected(outgoing, () => {
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

  /** Throws `AppAway` when the server is nowhere. */
  #open({ method, target, headers, pooled }: Opened): ClientRequest {
    const url = this.#place()
    if (!url) throw new AppAway('No server is running.')
    const secure = url.protocol === 'https:'
    const { protocol, hostname, port, auth } = urlToHttpOptions(url)
    const agent = pooled && (secure ? this.#https : this.#http)
    const destination = { protocol, hostname, port, ...(auth && { auth }) }
    const send = secure ? https.request : http.request
    return send({ ...destination, method, path: pathOf(target), headers, agent })
  }

  /** Resolves when the server is there: any answer at all will do, and so will a connection that lasts. */
  reach(): Promise<void> {
    return new Promise((resolve, reject) => {
      const target = this.#place()?.pathname ?? '/'
      const outgoing = this.#open({ method: 'OPTIONS', target, headers: {}, pooled: false })
      let timer: NodeJS.Timeout | undefined
      whenConnected(outgoing, () => {
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
function whenConnected(outgoing: ClientRequest, callback: () => void): void {
  const event = outgoing.protocol === 'https:' ? 'secureConnect' : 'connect'
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
