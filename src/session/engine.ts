import { randomBytes } from 'node:crypto'
import { type App, AppAway, type AppRequest } from '../app/app.ts'
import { portableAuthInfo } from '../app/auth-info.ts'
import { monotonicNow } from '../clock.ts'
import { errorText, isPersistError } from '../errors.ts'
import { findInitialize } from '../json.ts'
import { withoutQuery } from '../logger.ts'
import type { Settings } from '../options.ts'
import type { EventLog } from '../store/port.ts'
import { PROFILE } from '../versions.ts'
import { AppWord } from './app-word.ts'
import { Peers } from './cluster/peers.ts'
import { failure } from './failure.ts'
import { Opening } from './opening.ts'
import type { Directory } from './ownership/directory.ts'
import { Housekeeping } from './ownership/housekeeping.ts'
import { Membership } from './ownership/membership.ts'
import { OwnedSessions } from './ownership/owned-sessions.ts'
import { type Answer, appAway, refuse, relay, sessionNotFound } from './protocol/answer.ts'
import { principalsOf } from './protocol/principal.ts'
import { Serving } from './serving.ts'
import type { NewTail } from './streams/new-tail.ts'
import { newStreamId, STANDALONE } from './streams/stream.ts'
import { Tail, type TailHost } from './streams/tail.ts'

export interface EngineOptions {
  readonly app: App
  readonly log: EventLog
  readonly directory: Directory
  readonly settings: Settings
  /** One bounded sweep of the store; true: there is more. */
  readonly sweep: (limit: number) => Promise<boolean>
}

/** Where a request has come to. */
export interface At {
  /** The name of the endpoint: its sessions are unknown at any other. */
  readonly endpoint?: string | undefined
  /** The url of the endpoint in its own spelling, where the request has another. */
  readonly canonical?: string
}

/** Milliseconds that a client may take beyond the retry that it was told, once more, to be back at its stream. */
const COMES_BACK = 1000

/** Visible ASCII, by the protocol (MCP 2025-11-25, "Session Management"); the length is ours. */
const SESSION_ID = /^[\x21-\x7e]{1,256}$/

/** Finds the owner of a request's session, and lets it answer. */
export class Engine {
  readonly #options: EngineOptions
  readonly #node: Membership
  readonly #holder: OwnedSessions
  readonly #peers: Peers
  readonly #serving: Serving
  readonly #opening: Opening
  readonly #appWord: AppWord
  readonly #housekeeping: Housekeeping
  /** Requests that have no answer yet. */
  readonly #handling = new Set<AppRequest>()

  constructor(options: EngineOptions) {
    const { app, log, directory, settings, sweep } = options
    this.#options = options
    this.#node = new Membership(directory.nodes, settings.lease, settings.logger, {
      profile: JSON.stringify(PROFILE),
      onJoining: (identity) => this.#peers.open(identity),
      onLapsed: () => this.#lapsed(),
    })
    const host = this.#tailHost()
    const newTail: NewTail = (sessionId, stream, onClose) => new Tail({ host, sessionId, stream, onClose })
    this.#holder = new OwnedSessions({
      app,
      log,
      directory,
      settings,
      node: this.#node,
      newTail,
      onUse: (live) => this.#housekeeping.used(live),
      onCreated: (live) => this.#housekeeping.created(live),
    })
    this.#peers = new Peers({
      directory,
      settings,
      owned: this.#holder,
      newTail,
      serve: (request, take) => this.#serving.serveForwarded(request, take),
      failure,
    })
    this.#appWord = new AppWord(app, settings)
    this.#opening = new Opening({ app, settings, owned: this.#holder })
    this.#serving = new Serving({
      app,
      settings,
      owned: this.#holder,
      peers: this.#peers,
      notFound: (caller) => this.#appWord.notFound(caller),
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
    app.presence?.onChange((away, reason) => this.#appChanged(away, reason))
  }

  /** Never rejects: what the store or the app throws becomes a 503 or 500 and a line in the log. */
  async handle(request: AppRequest, at: At = {}): Promise<Answer> {
    this.#handling.add(request)
    try {
      const answer = await this.#route(request, at).catch((error: unknown) => this.#failed(request, error))
      return await this.readable(answer, request)
    } finally {
      this.#handling.delete(request)
    }
  }

  /** `refusal` with the CORS headers that the app gives this caller, see `AppWord`. */
  readable(refusal: Answer, caller: AppRequest): Promise<Answer> {
    return this.#appWord.readable(refusal, caller)
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
        { url: withoutQuery(request.url), error: errorText(error) },
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
   * turned away before nobody can come any more, which `connected` tells. A call that is not followed by anybody is waited
   * for only as long as its client may be on its way back to it: it may have gone with a node that died.
   */
  async drain(deadline: number, connected: () => boolean): Promise<void> {
    const { retry } = this
    const { live } = this.#holder
    const { forwarder } = this.#peers
    const began = monotonicNow()
    const until = began + deadline
    this.#serving.drainsUntil = until
    // Session by session: on a node that is called all the time there is never a moment at which nothing runs. And again
    // and again: what comes over the connections that are left may bring sessions and streams back.
    while (monotonicNow() < until) {
      forwarder.cutStandalone(retry)
      await this.#holder.handOverQuiet(retry, 2 * retry + COMES_BACK)
      if (live.size === 0) forwarder.cutSince(began, retry)
      if (live.size === 0 && !this.#isAwaited && !forwarder.busy && !connected()) break
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
    this.#holder.close()
    await this.#peers.close(this.retry)
    await this.#node.leave().catch((error: unknown) => {
      settings.logger.warn({ error: errorText(error) }, 'the node could not sign off; its lease will run out')
    })
  }

  /** Milliseconds after which clients that are sent away may come again. */
  get retry(): number {
    return this.#holder.retry
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

  /** Does a client wait for the head of an answer? */
  get #isAwaited(): boolean {
    return [...this.#handling].some(({ signal }) => !signal?.stopped)
  }

  async #lapsed(): Promise<void> {
    await this.#holder.reclaim()
    this.#peers.forwarder.searchAll()
  }

  async #route(given: AppRequest, { endpoint, canonical }: At): Promise<Answer> {
    const { app, settings } = this.#options
    const asked =
      given.authInfo === undefined ? given : { ...given, authInfo: portableAuthInfo(given.authInfo) }
    // What a revision without sessions asks is none of a session's: nobody has looked at whose that is.
    const request = isSessionless(asked.headers['mcp-protocol-version']) ? withoutSession(asked) : asked
    const id = request.headers['mcp-session-id']
    if (id === undefined) {
      // Whatever else it says: the app opens a session for it.
      const initialize = request.method === 'POST' && findInitialize(request.parsed)
      return initialize
        ? this.#opening.initialize(request, initialize, endpoint)
        : relay(await app.fetch(request))
    }
    if (!SESSION_ID.test(id)) return this.#appWord.notFound(request)
    if (canonical !== undefined) {
      // What the app says at another of its routes (a page for every path, say) must not pass for its word on a session. So
      // all that is asked in the name of a session is asked at the endpoint itself.
      if (!(await this.#appWord.isEndpoint(request, canonical))) return sessionNotFound()
      return this.#route({ ...request, url: canonical }, { endpoint })
    }
    const principal = await principalsOf(request, settings)
    return this.#serving.serve({
      sessionId: id,
      endpoint,
      principal,
      streamId: newStreamId(),
      again: undefined,
      request,
      gone: request.signal,
    })
  }

  #failed(request: AppRequest, error: unknown): Answer {
    // That it is away is said once, not for each request.
    if (error instanceof AppAway) return appAway()
    const { method, headers } = request
    const requestId = randomBytes(9).toString('base64url')
    const facts = { requestId, sessionId: headers['mcp-session-id'], method, error: errorText(error) }
    const level = isPersistError(error, 'SESSION_LIMIT') ? 'warn' : 'error'
    this.#options.settings.logger[level](facts, 'a request failed')
    return failure(requestId, error)
  }

  #tailHost(): TailHost {
    const { log, settings } = this.#options
    const { logger, retryInterval } = settings
    const facts = ({ sessionId, streamId }: Tail) => ({ sessionId, streamId })
    return {
      log,
      retryInterval,
      onGap: (tail, reason) =>
        logger.warn({ ...facts(tail), reason }, 'a resumed stream may lack events; the rest was sent'),
      onDelivered: ({ sessionId, streamId }, position) => {
        if (streamId === STANDALONE) this.#housekeeping.touch(sessionId, position)
      },
      onError: (tail, error) =>
        logger.error(
          { operation: 'read', ...facts(tail), error: errorText(error) },
          'the log cannot be read',
        ),
    }
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
