import { randomBytes } from 'node:crypto'
import { type App, AppAway, type AppRequest, header, isAppGone, isEventStream, readBody } from '../app/app.ts'
import { delay, monotonicNow } from '../clock.ts'
import { errorText, isPersistError } from '../errors.ts'
import type { Settings } from '../options.ts'
import { messageFrame } from '../sse.ts'
import type { EventLog } from '../store/store.ts'
import type { StreamRef } from './cluster/letters.ts'
import { Peers } from './cluster/peers.ts'
import { CallLeft } from './live/calls.ts'
import type { OwnerAnswer, RemoteListener } from './live/live-session.ts'
import { LocalApp, LocalSessionLost, ownPost, readMessages } from './live/local-app.ts'
import { STANDALONE } from './live/subscribers.ts'
import { Housekeeping } from './ownership/housekeeping.ts'
import { Node } from './ownership/membership.ts'
import { type Directory, Holder } from './ownership/owned-sessions.ts'
import {
  type Answer,
  appAway,
  clientHeaders,
  refuse,
  relay,
  sessionNotFound,
  unavailable,
  withCors,
} from './protocol/answer.ts'
import { isResponse, type Message, parseMessage } from './protocol/json-rpc.ts'
import { primes } from './protocol/priming.ts'
import { principalOf } from './protocol/principal.ts'
import { Tail } from './streams/tail.ts'

// Milliseconds between looks for the next owner of a call whose app is away.
const SETTLING = 100

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

/** Finds the owner of a request's session, and lets it answer. */
export class Engine {
  readonly #options: EngineOptions
  readonly #node: Node
  readonly #holder: Holder
  readonly #peers: Peers
  readonly #housekeeping: Housekeeping
  /** Requests that have no answer yet. */
  #handling = 0

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
    app.presence?.onChange((away, reason) => this.#appChanged(away, reason))
  }

  /** Never rejects: what the store or the app throws becomes a 503 or 500 and a line in the log. */
  async handle(request: AppRequest): Promise<Answer> {
    this.#handling += 1
    try {
      return await this.#route(request)
    } catch (error) {
      const { logger } = this.#options.settings
      // That it is away is said once, not for each request.
      if (error instanceof AppAway) return appAway()
      const sessionId = request.headers['mcp-session-id']
      logger.error({ sessionId, method: request.method, error: errorText(error) }, 'a request failed')
      if (isPersistError(error, 'STORE_UNAVAILABLE') || isPersistError(error, 'OVERLOADED')) {
        return unavailable('The session cannot be looked up.')
      }
      if (isAppGone(error)) return appAway()
      return refuse(500, isPersistError(error) ? error.message : 'Internal server error', { code: -32603 })
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

  #appChanged(away: boolean, reason: unknown): void {
    const { logger } = this.#options.settings
    if (!away) {
      logger.warn({}, 'the app is back')
      return
    }
    const facts = { error: errorText(reason) }
    logger.error(
      facts,
      'the app cannot be reached: its sessions are given up, and no new ones are taken until it is back',
    )
    void this.#holder.giveAway()
  }

  async #lapsed(): Promise<void> {
    await this.#holder.reclaim()
    this.#peers.edge.orphanAll()
  }

  async #route(request: AppRequest): Promise<Answer> {
    const { app, settings } = this.#options
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
    const principal = await principalOf(request, settings)
    return this.#serve({
      sessionId: id,
      principal,
      streamId: newStreamId(),
      again: false,
      request,
    })
  }

  /** Here or at the owner; and at the next owner, when that one is lost on the way. */
  async #serve(asked: SessionRequest): Promise<Answer> {
    const { settings } = this.#options
    const { sessionId, principal, request } = asked
    const giveUp = monotonicNow() + settings.lease * 2 + 5000
    let { again, streamId } = asked
    while (monotonicNow() < giveUp && !request.signal?.stopped) {
      const found = await this.#holder.find(sessionId, principal, request)
      // A call that was begun is settled by whoever has an app for it, this node or another: its answer will be in the log.
      if ('answer' in found && found.away && again) {
        await delay(SETTLING)
        continue
      }
      if ('answer' in found) return found.answer
      if ('missing' in found) return this.#notFound(request)
      if ('live' in found) {
        const own = await this.#serveOwn({ ...asked, streamId, again })
        // To a client of this process the owner answers with a tail; a reference to a stream is for other nodes.
        if (own !== 'moved' && own !== 'gone') return own as Answer
        if (own === 'gone') again = true
        else if (!again) streamId = newStreamId()
        await delay(20)
        continue
      }
      if ('moved' in found) continue
      // Nobody would collect the reply.
      if (this.#holder.draining) return unavailable('This process is shutting down.')
      const priming = primes(request, found.record.state, settings)
      const answer = await this.#peers.edge.forward(found.owner, { ...asked, streamId, again, priming })
      if (answer !== 'gone' && answer !== 'moved') return answer
      if (answer === 'gone') again = true
      // Nothing was made of it, and what its record says is over.
      else if (!again) streamId = newStreamId()
      await delay(20)
    }
    return unavailable('The session has no owner that answers.')
  }

  /** `moved`: the session has just left this node. `gone`: the same, and the app may have seen the request. */
  async #serveOwn(asked: SessionRequest): Promise<OwnerAnswer | 'moved' | 'gone'> {
    const { app } = this.#options
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
        if (error instanceof CallLeft) return 'gone'
        if (isAppGone(error)) {
          // It may be shutting down, and the calls that run in the session be about to end.
          if (error instanceof AppAway && found.live.calls > 0 && app.presence?.away) return appAway()
          await this.#holder.broken(found.live)
          // Nothing was asked of the app: it may be asked where it is. What broke off under anything but a call is the client's to
          // repeat: it may be what broke the app.
          return error instanceof AppAway ? 'moved' : appAway()
        }
        if (!(error instanceof LocalSessionLost) || attempt > 1) throw error
        // The app has swept its own session (or was restarted): it is rehydrated as after a crash, once.
        await this.#holder.forget(found.live, false)
      }
    }
  }

  async #initialize(request: AppRequest): Promise<Answer> {
    const { app, settings } = this.#options
    if (this.#holder.draining) return unavailable('This process is shutting down.')
    if (app.presence?.away) return appAway()
    const principal = await principalOf(request, settings)
    await this.#node.join()
    const response = await app.fetch(request)
    const id = header(response.headers, 'mcp-session-id')
    // Refused, or an app without sessions.
    if (response.status >= 300 || id === undefined) return relay(response)

    const streams = isEventStream(response)
    const text = streams ? '' : (await readBody(response)).toString()
    const messages = streams
      ? await readMessages(response)
      : [parseMessage(text)].filter((each) => each !== undefined)
    const answer = messages.find(isResponse)
    const headers = clientHeaders(response.headers, id)
    const body = streams ? messages.map((message) => messageFrame(JSON.stringify(message))).join('') : text
    if (!answer?.result) return { status: response.status, headers, body }

    const protocolVersion = String(answer.result['protocolVersion'])
    const state = { initialize: JSON.stringify(request.parsed), initialized: false, protocolVersion }
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
    const ping = ownPost(caller, { jsonrpc: '2.0', id: 'ping', method: 'ping' })
    const response = await this.#options.app.fetch(ping).catch(() => undefined)
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

function newStreamId(): string {
  return randomBytes(9).toString('base64url')
}

function isInitialize(parsed: unknown): boolean {
  const message = (Array.isArray(parsed) ? parsed[0] : parsed) as Message | undefined
  return message?.method === 'initialize'
}
