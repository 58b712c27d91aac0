import { randomBytes } from 'node:crypto'
import { type App, type AppRequest, header, isEventStream, readBody } from '../app/app.ts'
import { portableAuthInfo } from '../app/auth-info.ts'
import { delay, monotonicNow } from '../clock.ts'
import { errorText, isPersistError } from '../errors.ts'
import type { Settings } from '../options.ts'
import { messageFrame } from '../sse.ts'
import type { EventLog } from '../store/port.ts'
import { PROFILE } from './cluster/message.ts'
import { Peers } from './cluster/peers.ts'
import { AppSilent, askApp } from './live/ask-app.ts'
import { Binding, NotTheirs } from './live/binding.ts'
import type { Elsewhere, OwnerAnswer, SessionRequest } from './live/handling.ts'
import { LocalApp, LocalSessionLost, ownPost, patienceOf, readMessages } from './live/local-app.ts'
import { SessionLeft } from './live/session-left.ts'
import { Housekeeping } from './ownership/housekeeping.ts'
import { Node } from './ownership/membership.ts'
import { type Directory, OwnedSessions } from './ownership/owned-sessions.ts'
import {
  type Answer,
  clientHeaders,
  refuse,
  relay,
  sessionNotFound,
  unavailable,
  withCors,
} from './protocol/answer.ts'
import { isRequest, isResponse, type Message, parseMessages, toMessages } from './protocol/json-rpc.ts'
import { type Principals, principalsOf } from './protocol/principal.ts'
import type { NewTail } from './streams/new-tail.ts'
import { STANDALONE, type StreamRef } from './streams/stream.ts'
import { Tail } from './streams/tail.ts'

export interface EngineOptions {
  readonly app: App
  readonly log: EventLog
  readonly directory: Directory
  readonly settings: Settings
  /** One bounded sweep of the store; true: there is more. */
  readonly sweep: (limit: number) => Promise<boolean>
}

/** Finds the owner of a request's session, and lets it answer. */
export class Engine {
  readonly #options: EngineOptions
  readonly #node: Node
  readonly #holder: OwnedSessions
  readonly #peers: Peers
  readonly #housekeeping: Housekeeping
  /** Requests that have no answer yet. */
  #handling = 0
  /** Monotonic ms: until then calls that run may end; new ones are for the next owner. */
  #drainsUntil: number | undefined
  /** It was said that nobody can tell whose credentials come here. */
  #warned = false

  constructor(options: EngineOptions) {
    const { app, log, directory, settings, sweep } = options
    this.#options = options
    this.#node = new Node(directory.nodes, settings.lease, settings.logger, {
      profile: JSON.stringify(PROFILE),
      onJoining: (identity) => this.#peers.open(identity),
      onLapsed: () => this.#lapsed(),
    })
    const newTail: NewTail = (sessionId, stream, onClose) => this.#newTail(sessionId, stream, onClose)
    this.#holder = new OwnedSessions({
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
      owned: this.#holder,
      newTail,
      serve: (request, take) => this.#serveForwarded(request, take),
    })
    this.#housekeeping = new Housekeeping({
      live: this.#holder.live,
      sessions: directory.sessions,
      settings,
      sweep,
      onIdle: (live) => this.#holder.release(live),
      onKeepAlive: () => this.#peers.forwarder.keepAlive(),
      onLost: (live) => void this.#holder.forget(live, true),
    })
  }

  /** Never rejects: what the store or the app throws becomes a 503 or 500 and a line in the log. */
  async handle(request: AppRequest): Promise<Answer> {
    this.#handling += 1
    try {
      return await this.#route(request)
    } catch (error) {
      const { logger } = this.#options.settings
      const sessionId = request.headers['mcp-session-id']
      logger.error({ sessionId, method: request.method, error: errorText(error) }, 'a request failed')
      if (isPersistError(error, 'STORE_UNAVAILABLE') || isPersistError(error, 'OVERLOADED')) {
        return unavailable('The session cannot be looked up.')
      }
      if (isPersistError(error, 'SESSION_LIMIT')) {
        return refuse(429, 'Too many sessions; end one, or try again later.', { retryAfter: 60 })
      }
      if (error instanceof AppSilent) {
        return refuse(503, 'The server does not answer; try again.', { retryAfter: 1 })
      }
      return refuse(500, 'Internal server error', { code: -32603 })
    } finally {
      this.#handling -= 1
    }
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
   * resume at another node. New calls wait at the node that they came to until the session has left, and are for its next
   * owner: so a drain lasts as long as its longest call, and not as long as its clients are busy. Whatever else still
   * comes is served as ever, for calls that run may wait for it: answers, cancellations, progress, streams. Nobody is
   * turned away before nobody can come any more, which `connected` tells.
   */
  async drain(deadline: number, connected: () => boolean): Promise<void> {
    const { retry } = this
    const { live } = this.#holder
    const { forwarder } = this.#peers
    const until = monotonicNow() + deadline
    this.#drainsUntil = until
    // Session by session: on a node that is called all the time there is never a moment at which nothing runs. And again
    // and again: what comes over the connections that are left may bring sessions and streams back.
    while (monotonicNow() < until) {
      forwarder.cutStandalone(retry)
      await this.#holder.handOverQuiet(retry)
      if (live.size === 0 && this.#handling === 0 && !forwarder.busy && !connected()) break
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    for (const live of this.#holder.live.values()) live.audience.cutClients(retry)
    this.#peers.forwarder.close(retry)
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
    this.#peers.forwarder.searchAll()
  }

  async #route(given: AppRequest): Promise<Answer> {
    const { app, settings } = this.#options
    const request =
      given.authInfo === undefined ? given : { ...given, authInfo: portableAuthInfo(given.authInfo) }
    const id = request.headers['mcp-session-id']
    // Revisions from 2026-07-28 on have no sessions; whatever comes without one is the app's own business.
    if ((request.headers['mcp-protocol-version'] ?? '') >= '2026-07-28')
      return relay(await app.fetch(request))
    if (!['GET', 'POST', 'DELETE'].includes(request.method)) return relay(await app.fetch(request))
    if (id === undefined) {
      return isInitialize(request.parsed) ? this.#initialize(request) : relay(await app.fetch(request))
    }
    // Visible ASCII, by the protocol (MCP 2025-11-25, "Session Management"); the length is ours.
    if (!/^[\x21-\x7e]{1,256}$/.test(id)) return this.#notFound(request)
    const principal = await principalsOf(request, settings)
    return this.#serve({
      sessionId: id,
      principal,
      streamId: randomBytes(9).toString('base64url'),
      again: false,
      request,
      gone: request.signal,
    })
  }

  /** Here or at the owner; and at the next owner, when that one is lost on the way. */
  async #serve(asked: SessionRequest): Promise<Answer> {
    const { settings } = this.#options
    const { sessionId, principal, request } = asked
    const giveUp = monotonicNow() + settings.lease * 2 + 5000
    for (let again = asked.again; monotonicNow() < giveUp; ) {
      // A process that drains lets others take what it has let go.
      const heir = this.#drainsUntil === undefined ? undefined : await this.#peers.another()
      const found = await this.#holder.find(sessionId, principal, request, { claim: heir === undefined })
      if ('answer' in found) return found.answer
      if ('missing' in found) return this.#notFound(request)
      if ('live' in found) {
        const own = await this.#serveOwn({ ...asked, again })
        // To a client of this process the owner answers with a tail; a reference to a stream is for other nodes.
        if (own !== 'moved' && own !== 'left') return own as Answer
        again ||= own === 'left'
        continue
      }
      if ('moved' in found) continue
      // Nobody would collect the reply.
      if (this.#holder.draining) return unavailable('This process is shutting down.')
      const [owner, how] = 'free' in found ? [heir!, { take: true }] : [found.owner, {}]
      const answer = await this.#peers.forwarder.forward(owner, { ...asked, again }, how)
      if (answer !== 'gone' && answer !== 'moved') return answer
      if (answer === 'gone') again = true
      await delay(20)
    }
    return unavailable('The session has no owner that answers.')
  }

  async #serveForwarded(asked: SessionRequest, take: boolean): Promise<OwnerAnswer | Elsewhere> {
    if (take && this.#drainsUntil !== undefined) return 'moved'
    return this.#serveOwn(asked, !take)
  }

  /** `own`: take no session that the store does not say is ours. */
  async #serveOwn(asked: SessionRequest, own = false): Promise<OwnerAnswer | Elsewhere> {
    const { sessionId, principal, request } = asked
    for (let attempt = 1; ; attempt += 1) {
      const found = await this.#holder.find(sessionId, principal, request, { own })
      if ('answer' in found) return found.answer
      if ('missing' in found) return this.#notFound(request)
      if (!('live' in found)) return 'moved'
      if (this.#drainsUntil !== undefined && isNewCall(request)) {
        await this.#holder.left(found.live, this.#drainsUntil - monotonicNow())
        return 'moved'
      }
      try {
        return await found.live.handle(request, asked)
      } catch (error) {
        if (error instanceof NotTheirs) return this.#notFound(request)
        if (error instanceof SessionLeft) return error.mayHaveRun ? 'left' : 'moved'
        if (!(error instanceof LocalSessionLost) || attempt > 1) throw error
        // The app has swept its own session (or was restarted): it is rehydrated as after a crash, once.
        await this.#holder.forget(found.live, false)
      }
    }
  }

  async #initialize(request: AppRequest): Promise<Answer> {
    if (this.#holder.draining) return unavailable('This process is shutting down.')
    const principal = await principalsOf(request, this.#options.settings)
    return this.#holder.opening(() => this.#open(request, principal))
  }

  /** Nothing is stored before the app has opened a session: who is refused leaves nothing. */
  async #open(request: AppRequest, principal: Principals): Promise<Answer> {
    const { app, settings } = this.#options
    const response = await app.fetch(request)
    const id = header(response.headers, 'mcp-session-id')
    // Refused, or an app without sessions.
    if (response.status >= 300 || id === undefined) return relay(response)

    const binding = new Binding(settings, undefined)
    const local = new LocalApp({ app, settings, sessionId: id, publicId: id, caller: request, binding })
    try {
      const streams = isEventStream(response)
      const text = streams ? '' : (await readBody(response)).toString()
      const messages = streams ? await readMessages(response) : parseMessages(text)
      const answer = messages.find(isResponse)
      const headers = clientHeaders(response.headers, id)
      const body = streams ? messages.map((message) => messageFrame(JSON.stringify(message))).join('') : text
      if (!answer?.result) {
        void local.delete().catch(() => {})
        return { status: response.status, headers, body }
      }
      await binding.accepted(request, principal, response.authInfo)
      if (binding.unseen) this.#warnOfUnseen()
      const protocolVersion = String(answer.result['protocolVersion'])
      const initialize = JSON.stringify(request.parsed)
      const state = { initialize, initialized: false, protocolVersion, ...binding.state }
      // The record stands before the client learns the id, so that no node is asked for a session it cannot find.
      await this.#holder.create({ id, principal: binding.principal, state }, local)
      return { status: response.status, headers, body }
    } catch (error) {
      void local.delete().catch(() => {})
      throw error
    }
  }

  #warnOfUnseen(): void {
    const { settings } = this.#options
    if (this.#warned || settings.principal) return
    this.#warned = true
    settings.logger.warn(
      { option: 'principal' },
      'callers carry credentials, and nothing tells whose they are: whoever the app lets in and who knows the id of a ' +
        'session can use it. Set the option "principal", or let your authentication run in front of the handler. Until ' +
        'then a session whose process is gone is given only to the credential that was accepted last (see "takeover")',
    )
  }

  /**
   * 404, and nobody learns why. But whom the app would not let in at all hears that from the app: a client whose token
   * has run out must learn to refresh it, not to open another session.
   */
  async #notFound(caller: AppRequest): Promise<Answer> {
    const { app, settings } = this.#options
    const id = `mcp-persist-${randomBytes(6).toString('base64url')}`
    const ping = ownPost(caller, { jsonrpc: '2.0', id, method: 'ping' })
    const response = await askApp(app, ping, { patience: patienceOf(settings) }).catch(() => undefined)
    if (response?.status === 401 || response?.status === 403) return relay(response)
    response?.cancel()
    return withCors(sessionNotFound(), response?.headers ?? [])
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

function isInitialize(parsed: unknown): boolean {
  const message = (Array.isArray(parsed) ? parsed[0] : parsed) as Message | undefined
  return message?.method === 'initialize'
}

/** Something new for the app to do, and not a part of what it does already. */
function isNewCall({ method, parsed }: AppRequest): boolean {
  return method === 'POST' && (toMessages(parsed) ?? []).some(isRequest)
}
