import { randomBytes } from 'node:crypto'
import { type App, type AppRequest, type AppResponse, header, isEventStream, readBody } from '../app/app.ts'
import { delay, monotonicNow, withTimeout } from '../clock.ts'
import { errorText, isPersistError } from '../errors.ts'
import { findInitialize, type InitializeRequest, parseJson } from '../json.ts'
import type { Settings } from '../options.ts'
import { messageFrame } from '../sse.ts'
import type { EventLog } from '../store/store.ts'
import type { StreamRef } from './cluster/letters.ts'
import { Peers } from './cluster/peers.ts'
import type { OwnerAnswer, RemoteListener } from './live/live-session.ts'
import { LocalApp, LocalSessionLost, ownPost, readMessages } from './live/local-app.ts'
import { STANDALONE } from './live/subscribers.ts'
import { Housekeeping } from './ownership/housekeeping.ts'
import { Node } from './ownership/membership.ts'
import { type Directory, Holder } from './ownership/owned-sessions.ts'
import {
  type Answer,
  clientHeaders,
  refuse,
  relay,
  sessionNotFound,
  shuttingDown,
  unavailable,
  withCors,
} from './protocol/answer.ts'
import { isResponse, toMessages } from './protocol/json-rpc.ts'
import { primes } from './protocol/priming.ts'
import { principalOf } from './protocol/principal.ts'
import { Tail } from './streams/tail.ts'

export interface EngineOptions {
  readonly app: App
  readonly log: EventLog
  readonly directory: Directory
  readonly settings: Settings
  /** One bounded sweep of the store; true: there is more. */
  readonly sweep: (limit: number) => Promise<boolean>
}

/** An HTTP request for a session, wherever it comes from. */
export interface SessionRequest {
  readonly sessionId: string
  readonly principal: string | null
  readonly streamId: string
  readonly again: boolean
  readonly request: AppRequest
  /** Set when another node has forwarded it. */
  readonly remote?: RemoteListener
}

/** Visible ASCII, by the protocol (MCP 2025-11-25, "Session Management"); the length is ours. */
const SESSION_ID = /^[\x21-\x7e]{1,256}$/

const MENDED_BY_WAITING = ['STORE_UNAVAILABLE', 'OVERLOADED', 'STORE_CLOSED'] as const

// Of the endpoint that are known to be one; any other is looked at each time.
const MAX_SPELLINGS = 100

// Milliseconds that the app gets to say a word about a caller whom it would not serve anyway.
const PATIENCE = 2000

/** Finds the owner of a request's session, and lets it answer. */
export class Engine {
  readonly #options: EngineOptions
  readonly #node: Node
  readonly #holder: Holder
  readonly #peers: Peers
  readonly #housekeeping: Housekeeping
  /** Requests that have no answer yet. */
  #handling = 0
  #warned = false
  /** Paths that the app takes for the endpoint. */
  readonly #spellings = new Set<string>()

  constructor(options: EngineOptions) {
    const { app, log, directory, settings, sweep } = options
    this.#options = options
    this.#node = new Node(directory.nodes, settings.lease, settings.logger, {
      onJoined: (identity) => this.#peers.open(identity),
      onLapsed: () => this.#lapsed(),
    })
    const newTail = (sessionId: string, stream: StreamRef, onClose: () => void) =>
      this.#newTail(sessionId, stream, onClose)
    this.#holder = new Holder({
      app,
      log,
      directory,
      settings,
      node: this.#node,
      newTail,
      onUse: (live) => this.#housekeeping.used(live),
    })
    this.#peers = new Peers({
      directory,
      settings,
      node: this.#node,
      holder: this.#holder,
      newTail,
      serve: (request) => this.#serveOwn(request),
    })
    this.#housekeeping = new Housekeeping({
      live: this.#holder.live,
      sessions: directory.sessions,
      settings,
      sweep,
      onIdle: (live) => this.#holder.release(live),
      onKeepAlive: () => this.#peers.edge.keepAlive(),
    })
  }

  /**
   * Never rejects: what the store or the app throws becomes a 503 or 500 and a line in the log. `canonical` is the url of the
   * endpoint in its own spelling, where the request has another.
   */
  async handle(request: AppRequest, canonical?: string): Promise<Answer> {
    this.#handling += 1
    try {
      const answer = await this.#route(request, canonical).catch((error: unknown) =>
        this.#failure(request, error),
      )
      return await this.readable(answer, request)
    } finally {
      this.#handling -= 1
    }
  }

  /**
   * `refusal` with the CORS headers that the app gives this caller: a page that is refused must be able to read why. What
   * the app has answered itself has them, or is not to have them.
   */
  async readable(refusal: Answer, caller: AppRequest): Promise<Answer> {
    if (caller.headers['origin'] === undefined || refusal.status < 400 || !('body' in refusal)) return refusal
    if (header(refusal.headers, 'access-control-allow-origin') !== undefined) return refusal
    const response = await this.#ask(caller)
    response?.cancel()
    return withCors(refusal, response?.headers ?? [])
  }

  /**
   * Is there a session that this id, in a request for something else than the endpoint, could reach in the app? `anywhere`:
   * the app is not this process's own, and knows what other nodes have opened.
   */
  async knows(id: string, { anywhere = false } = {}): Promise<boolean> {
    if (this.#holder.knows(id)) return true
    if (!anywhere || !SESSION_ID.test(id)) return false
    return (await this.#options.directory.sessions.get(id)) !== undefined
  }

  /** A request that is none of the MCP endpoint's. */
  async pass(request: AppRequest): Promise<Answer> {
    try {
      return relay(await this.#options.app.fetch(request))
    } catch (error) {
      this.#options.settings.logger.error(
        { url: request.url, error: errorText(error) },
        'the app did not answer',
      )
      return refuse(502, 'The app behind this server did not answer.')
    }
  }

  /**
   * Gives the sessions up as their calls end, for `deadline` ms at the most, then ends the clients' streams, so that they
   * resume at another node. Whatever still comes is served as ever: nobody is turned away before nobody can come any
   * more, which `connected` tells.
   */
  async drain(deadline: number, connected: () => boolean): Promise<void> {
    const { retry } = this
    const { live } = this.#holder
    const { edge } = this.#peers
    const until = monotonicNow() + deadline
    // Session by session: on a node that is called all the time there is never a moment at which nothing runs. And again
    // and again: what comes over the connections that are left may bring sessions and streams back.
    while (monotonicNow() < until) {
      edge.cutStandalone(retry)
      await this.#holder.handOverQuiet(retry)
      if (live.size === 0 && this.#handling === 0 && !edge.busy && !connected()) break
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    for (const live of this.#holder.live.values()) live.audience.cutClients(retry)
    this.#peers.edge.close(retry)
  }

  /** Gives all sessions up and leaves. */
  async close(): Promise<void> {
    const { settings } = this.#options
    this.#holder.draining = true
    await this.#housekeeping.close()
    await this.#holder.handOver(this.retry)
    await this.#peers.close(this.retry)
    await this.#node.leave().catch((error: unknown) => {
      settings.logger.warn({ error: errorText(error) }, 'the node could not sign off; its lease will run out')
    })
  }

  /** Milliseconds after which clients that are sent away may come again. */
  get retry(): number {
    return this.#options.settings.retryInterval ?? 1000
  }

  async #lapsed(): Promise<void> {
    await this.#holder.reclaim()
    this.#peers.edge.orphanAll()
  }

  async #route(request: AppRequest, canonical?: string): Promise<Answer> {
    const { app, settings } = this.#options
    const id = request.headers['mcp-session-id']
    // The app's own business: and none of a session's, for nobody has looked at whose that is.
    if (isSessionless(request.headers['mcp-protocol-version'])) {
      return relay(await app.fetch(id === undefined ? request : withoutSession(request)))
    }
    if (id === undefined) {
      const initialize = request.method === 'POST' && findInitialize(request.parsed)
      return initialize ? this.#initialize(request, initialize) : relay(await app.fetch(request))
    }
    if (!SESSION_ID.test(id)) return this.#notFound(request)
    if (canonical !== undefined) {
      // What the app says at another of its routes (a page for every path, say) must not pass for its word on a session. So
      // all that is asked in the name of a session is asked at the endpoint itself.
      if (!(await this.#isEndpoint(request, canonical))) return sessionNotFound()
      return this.#route({ ...request, url: canonical })
    }
    const principal = await principalOf(request, settings)
    return this.#serve({
      sessionId: id,
      principal,
      streamId: randomBytes(9).toString('base64url'),
      again: false,
      request,
    })
  }

  #failure(request: AppRequest, error: unknown): Answer {
    const { logger } = this.#options.settings
    const { method, headers } = request
    const requestId = randomBytes(9).toString('base64url')
    const facts = { requestId, sessionId: headers['mcp-session-id'], method, error: errorText(error) }
    logger.error(facts, 'a request failed')
    if (MENDED_BY_WAITING.some((code) => isPersistError(error, code))) {
      return unavailable('The session cannot be looked up.')
    }
    return refuse(500, 'Internal server error', { code: -32603, data: { requestId } })
  }

  /** Here or at the owner; and at the next owner, when that one is lost on the way. */
  async #serve(asked: SessionRequest): Promise<Answer> {
    const { settings } = this.#options
    const { sessionId, principal, request } = asked
    const giveUp = monotonicNow() + settings.lease * 2 + 5000
    for (let again = asked.again; monotonicNow() < giveUp; ) {
      const found = await this.#holder.find(sessionId, principal, request)
      if ('answer' in found) return found.answer
      if ('missing' in found) return this.#notFound(request)
      if ('live' in found) {
        const own = await this.#serveOwn({ ...asked, again })
        // To a client of this process the owner answers with a tail; a reference to a stream is for other nodes.
        if (own !== 'moved') return own as Answer
        continue
      }
      if ('moved' in found) continue
      // Nobody would collect the reply.
      if (this.#holder.draining) return shuttingDown()
      const priming = primes(request, found.record.state, settings)
      const answer = await this.#peers.edge.forward(found.owner, { ...asked, again, priming })
      if (answer !== 'gone' && answer !== 'moved') return answer
      if (answer === 'gone') again = true
      await delay(20)
    }
    return unavailable('The session has no owner that answers.')
  }

  /** `moved`: the session has just left this node. */
  async #serveOwn(asked: SessionRequest): Promise<OwnerAnswer | 'moved'> {
    const { sessionId, principal, request } = asked
    const own = asked.remote !== undefined
    for (let attempt = 1; ; attempt += 1) {
      const found = await this.#holder.find(sessionId, principal, request, { own })
      if ('answer' in found) return found.answer
      if ('missing' in found) return this.#notFound(request)
      if ('owner' in found || 'moved' in found) return 'moved'
      try {
        return await found.live.handle(request, asked)
      } catch (error) {
        if (!(error instanceof LocalSessionLost) || attempt > 1) throw error
        // The app has swept its own session (or was restarted): it is rehydrated as after a crash, once.
        await this.#holder.forget(found.live, false)
      }
    }
  }

  async #initialize(request: AppRequest, { id: requestId }: InitializeRequest): Promise<Answer> {
    const { app, settings } = this.#options
    if (this.#holder.draining) return shuttingDown()
    const principal = await principalOf(request, settings)
    await this.#node.join()
    const response = await app.fetch(request)
    const id = header(response.headers, 'mcp-session-id')
    if (response.status >= 300) return relay(response)
    if (id === undefined) {
      this.#warnStateless()
      return relay(response)
    }

    const streams = isEventStream(response)
    const text = streams ? '' : (await readBody(response)).toString()
    const messages = streams ? await readMessages(response) : (toMessages(parseJson(text)) ?? [])
    const answer = messages.find((message) => isResponse(message) && message.id === requestId)
    const headers = clientHeaders(response.headers, id)
    const body = streams ? messages.map((message) => messageFrame(JSON.stringify(message))).join('') : text
    if (!answer?.result) return { status: response.status, headers, body }

    const protocolVersion = String(answer.result['protocolVersion'])
    const initialize = JSON.stringify(findInitialize(request.parsed))
    const state = { initialize, initialized: false, protocolVersion }
    const local = new LocalApp(app, id, id, request)
    // The record stands before the client learns the id, so that no node is asked for a session it cannot find.
    await this.#holder.create({ id, principal, state }, local).catch(async (error: unknown) => {
      await local.delete().catch(() => {})
      throw error
    })
    return { status: response.status, headers, body }
  }

  /**
   * 404, and nobody learns why. But whom the app would not let in at all hears that from the app: a client whose token
   * has run out must learn to refresh it, not to open another session.
   */
  async #notFound(caller: AppRequest): Promise<Answer> {
    const response = await this.#ask(caller)
    if (response?.status === 401 || response?.status === 403) return relay(response)
    response?.cancel()
    return withCors(sessionNotFound(), response?.headers ?? [])
  }

  /** Does the app take another spelling for its endpoint? It answers alike then, to a caller without a session. */
  async #isEndpoint(request: AppRequest, canonical: string): Promise<boolean> {
    const spelling = request.url.replace(/[?#].*$/s, '')
    if (this.#spellings.has(spelling)) return true
    const answers = await Promise.all([this.#ask(request), this.#ask({ ...request, url: canonical })])
    for (const answer of answers) answer?.cancel()
    const [there, here] = answers
    if (there === undefined || there.status !== here?.status) return false
    if (this.#spellings.size < MAX_SPELLINGS) this.#spellings.add(spelling)
    return true
  }

  /** What the app says to this caller, whatever he has asked for; undefined where it does not say it in time. */
  async #ask(caller: AppRequest): Promise<AppResponse | undefined> {
    const ping = ownPost(caller, { jsonrpc: '2.0', id: 'ping', method: 'ping' })
    const asked = this.#options.app.fetch(ping)
    return withTimeout(asked, PATIENCE, () => new Error('The app is slow.')).catch(() => {
      asked.then(
        (late) => late.cancel(),
        () => {},
      )
      return undefined
    })
  }

  #warnStateless(): void {
    if (this.#warned) return
    this.#warned = true
    this.#options.settings.logger.warn(
      { path: this.#options.settings.path },
      'the app opens no sessions (it answers initialize without Mcp-Session-Id): there is nothing to persist',
    )
  }

  #newTail(sessionId: string, stream: StreamRef, onClose: () => void): Tail {
    const { log, settings } = this.#options
    const { logger, retryInterval } = settings
    const { streamId } = stream
    const facts = { sessionId, streamId }
    return new Tail({
      ...stream,
      log,
      sessionId,
      retryInterval,
      onGap: (reason) =>
        logger.warn({ ...facts, reason }, 'a resumed stream may lack events; the rest was sent'),
      onDelivered: (position) => {
        if (streamId === STANDALONE) this.#housekeeping.touch(sessionId, position)
      },
      onError: (error) =>
        logger.error({ operation: 'read', ...facts, error: errorText(error) }, 'the log cannot be read'),
      onClose,
    })
  }
}

/** Revisions from 2026-07-28 on have no sessions. A version that is no date is no revision. */
function isSessionless(version: string | undefined): boolean {
  if (version === undefined || version < '2026-07-28') return false
  return /^\d{4}-\d{2}-\d{2}$/.test(version) && !Number.isNaN(Date.parse(version))
}

function withoutSession(request: AppRequest): AppRequest {
  const { 'mcp-session-id': _, ...headers } = request.headers
  return { ...request, headers }
}
