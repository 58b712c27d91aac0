import { type App, type AppRequest, isAppGone } from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText, PersistError } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { ClaimedSession, EventLog, OpenStream, SessionRecord } from '../../store/port.ts'
import { formatOf, isReadable } from '../../versions.ts'
import { mayHave, mayTakeOver, NotTheirs } from '../live/binding.ts'
import { LiveSession } from '../live/live-session.ts'
import type { LocalApp } from '../live/local-app.ts'
import { SessionLeft } from '../live/session-left.ts'
import { isAt } from '../live/session-state.ts'
import { type Answer, appAway, refuse, shuttingDown, unavailable } from '../protocol/answer.ts'
import type { Principals } from '../protocol/principal.ts'
import type { NewTail } from '../streams/new-tail.ts'
import { Claims } from './claims.ts'
import type { Directory } from './directory.ts'
import { Farewells } from './farewells.ts'
import { HeldIds } from './held-ids.ts'
import { lifetimeOf } from './housekeeping.ts'
import { Lifecycle } from './lifecycle.ts'
import { mayRepeat } from './lost-calls.ts'
import type { Membership } from './membership.ts'
import { patiently, Refused, settleLostCalls } from './rehydrate.ts'

export interface OwnedSessionsOptions {
  readonly app: App
  readonly log: EventLog
  readonly directory: Directory
  readonly settings: Settings
  readonly node: Membership
  readonly newTail: NewTail
  readonly onUse: (live: LiveSession) => void
  readonly onCreated: (live: LiveSession) => void
}

interface FindOptions {
  readonly own?: boolean
  readonly claim?: boolean
  readonly endpoint?: string | undefined
}

/** Where a session is: live here, live at another node, or nowhere for this caller. */
export type Found =
  | { readonly live: LiveSession }
  | { readonly owner: string }
  /** `away`: by this node, as long as its app is away. */
  | { readonly answer: Answer; readonly away?: true }
  /** Unknown, expired, terminated, or somebody else's. */
  | { readonly missing: true }
  /** Not ours, says the store; only where nothing but our own was asked for. */
  | { readonly moved: true }
  /** Nobody's, in that format; where it was not to be claimed, or cannot be read here. */
  | { readonly free: number }

const MISSING = { missing: true } as const
const AWAY = () => ({ answer: appAway(), away: true }) as const

// Milliseconds that calls get to end by themselves on connections that have outlived the app: it may be shutting down in good
// order, and takes new ones no more.
const LAST_CALLS = 10_000

// Another node may win the race for a session a few times in a row; not for ever.
const MAX_CLAIMS = 5

/** The sessions that this node owns: claimed, rehydrated, given up. What happens when is in `lifecycle.ts`. */
export class OwnedSessions {
  readonly #options: OwnedSessionsOptions
  readonly #lifecycle = new Lifecycle()
  readonly #held: HeldIds
  readonly #farewells: Farewells
  readonly #claims: Claims
  readonly live = new Map<string, LiveSession>()
  /** Sessions that the app is opening. */
  #opening = 0
  draining = false

  constructor(options: OwnedSessionsOptions) {
    this.#options = options
    const { ttl, logger } = options.settings
    this.#held = new HeldIds(ttl)
    this.#farewells = new Farewells({ isInUse: (local) => this.#isInUse(local), logger })
    this.#claims = new Claims({
      ...options,
      farewells: this.#farewells,
      newSession: (record, local) => this.#newSession(record, local),
      onDropped: (live) => this.#drop(live),
    })
  }

  /** May the app of this process know a session by this id, the client's or its own? */
  knows(id: string): boolean {
    return this.#held.has(id) || this.#lifecycle.has(id)
  }

  /** The session, if it is here and of that endpoint, nobody can have claimed it from us, and it is theirs. */
  here(id: string, principal: Principals, endpoint: string | undefined): LiveSession | undefined {
    const live = this.live.get(id)
    if (!live || live.closed || !live.isAt(endpoint) || !this.#options.node.trusted) return undefined
    return live.local.binding.mayHave(principal) ? live : undefined
  }

  /**
   * `own`: another node asks because the store says that the session is ours; take no other for it. `claim`: take it
   * where it is nobody's. `endpoint`: where it is looked for.
   */
  async find(
    id: string,
    principal: Principals,
    caller: AppRequest,
    { own = false, claim = true, endpoint }: FindOptions = {},
  ): Promise<Found> {
    const { directory, node, settings } = this.#options
    // After a pause (a stopped process, a sleeping machine) somebody else may own what we hold: ask first.
    if (this.live.size > 0 && !node.trusted) {
      await node.confirm()
      if (node.lapsed) return { answer: unavailable('Whose the session is cannot be looked up.') }
    }
    for (let attempt = 0; attempt < MAX_CLAIMS; attempt += 1) {
      const live = this.live.get(id)
      if (live && !live.isAt(endpoint)) return MISSING
      if (live && !live.closed) return live.local.binding.mayHave(principal) ? { live } : MISSING
      const record = await node.noting(() => directory.sessions.get(id))
      if (!record) return MISSING
      // What cannot be read is left to a node that can, and so is the question whose it is.
      const readable = isReadable(record.state)
      if (readable && !isAt(record.state, endpoint)) return MISSING
      if (readable && !mayHave(record, principal)) return MISSING
      const { id: self } = await node.join()
      if (own && record.owner !== self) return { moved: true }
      const elsewhere = record.owner !== null && record.owner !== self
      if (elsewhere && record.ownerAlive) return { owner: record.owner }
      if (!claim || !readable) return { free: formatOf(record.state) }
      if (this.#options.app.presence?.away) {
        if (!this.#lifecycle.has(id)) return AWAY()
        // It is being given up: then somebody else can have it, and not before.
        await this.#lifecycle.settled(id)
        continue
      }
      if (this.draining) return { answer: shuttingDown() }
      if (elsewhere && (await node.settle())) continue
      if (!mayTakeOver(record, caller, settings)) return MISSING
      if (!this.#lifecycle.has(id) && !this.#hasRoom()) return { answer: full() }
      const action = this.#lifecycle.on(id, 'wanted')
      const found = action === 'claim' ? await this.#claim(record, self, principal, caller) : undefined
      if (found) return found
      await this.#lifecycle.settled(id)
    }
    return { answer: unavailable('The session could not be claimed.') }
  }

  /** Runs `open`, in which the app may open a session, if there is room for one; else the answer is that there is none. */
  async opening<T>(open: () => Promise<T>): Promise<T | Answer> {
    if (!this.#hasRoom()) return full()
    this.#opening += 1
    try {
      return await open()
    } finally {
      this.#opening -= 1
    }
  }

  /** A session that the app has just opened. Rejects when its record cannot be stored; then it does not exist. */
  async create(session: NewSession, local: LocalApp): Promise<LiveSession> {
    const { directory, settings, node } = this.#options
    const { id: owner } = await node.join()
    const { maxSessionsPerPrincipal } = settings
    const ttl = lifetimeOf(settings)
    const limit = maxSessionsPerPrincipal < Number.POSITIVE_INFINITY ? { limit: maxSessionsPerPrincipal } : {}
    const generation = await directory.sessions.create({ ...session, owner, ttl, ...limit })
    if (!(await this.#claims.takeAlong({ id: session.id, generation, owner }))) throw lost(session.id)
    this.#lifecycle.on(session.id, 'opened')
    const live = this.#newSession({ ...session, generation, last: 0, delivered: 0 }, local)
    this.live.set(session.id, live)
    this.#options.onCreated(live)
    await live.openTap()
    return live
  }

  /** Nobody uses it: whoever needs it next claims it. */
  async release(live: LiveSession): Promise<void> {
    if (!this.#holds(live) || live.busy || live.listening) return
    if (this.#lifecycle.on(live.id, 'idle') === 'release')
      await this.#giveUp(live, () => this.#stop(live, true))
  }

  /** Stops the instance here; `tellApp` also frees the app's own session. */
  async forget(live: LiveSession, tellApp: boolean): Promise<void> {
    if (!this.#holds(live)) return
    this.#drop(live)
    if (this.#lifecycle.on(live.id, 'lost') === 'stop') await this.#stop(live, tellApp)
  }

  /** The app has opened a session for which there is no use. */
  dismiss(local: LocalApp): void {
    void this.#farewells.say(local)
  }

  /** Gives every session up in good order; listeners elsewhere follow to the next owner. */
  async handOver(retry: number): Promise<void> {
    await Promise.all(this.#lifecycle.ids().map((id) => this.#leave(id, retry)))
  }

  /** Nothing is said to the app any more. */
  close(): void {
    this.#farewells.close()
  }

  /**
   * The same for those in which nothing runs at the moment, or nothing that anybody has followed for `forgotten` ms: what comes
   * next is for another node.
   */
  async handOverQuiet(retry: number, forgotten = Number.POSITIVE_INFINITY): Promise<void> {
    const quiet = [...this.live.values()].filter((live) => live.isQuiet(forgotten))
    await Promise.all(quiet.map(({ id }) => this.#leave(id, retry)))
  }

  /**
   * The app is away: nodes whose app is there may have the sessions, those in which a call runs when that has ended. A call
   * whose connection broke is no such call, see `broken`.
   */
  async giveAway(): Promise<void> {
    const { app } = this.#options
    const until = monotonicNow() + LAST_CALLS
    while (app.presence?.away && this.live.size > 0) {
      if (monotonicNow() < until) await this.handOverQuiet(this.retry)
      else await this.handOver(this.retry)
      await delay(100)
    }
  }

  /**
   * The connection to the app broke under something of this session, under a call if there is one. The app says what that means.
   * It is away, or does not know the session: its process is gone, and all that ran in it. Then the session is given up like
   * one of a node that died, only sooner, and whoever claims it next (this node too) rehydrates it and settles what is open
   * in its log. Else only that one connection was lost, and the rest of the session is as good as ever: so the call alone is
   * settled, in the same way. Until that has been decided nothing is said to the client, for nobody knows yet.
   */
  async broken(live: LiveSession, call?: OpenStream): Promise<void> {
    const { log, settings } = this.#options
    // A call that is run again may break before those that wait for the session are told that it is here.
    await this.#lifecycle.settled(live.id)
    if (!this.#holds(live)) return
    try {
      if (await live.local.survives()) {
        if (call && this.#holds(live))
          await patiently(settings, (signal) => settleLostCalls(live, [call], log, signal))
        return
      }
    } catch (error) {
      const facts = { sessionId: live.id, error: errorText(error) }
      settings.logger.warn(facts, 'a call that broke off could not be settled; its session is given up')
    }
    if (this.#holds(live)) await this.#leave(live.id, this.retry)
  }

  /** Milliseconds after which clients that are sent away may come again. */
  get retry(): number {
    return this.#options.settings.retryInterval ?? 1000
  }

  /** The lease was over and this node has another id: what nobody claimed meanwhile goes on, the rest stops. */
  async reclaim(): Promise<void> {
    const { directory, node } = this.#options
    const { id: owner } = await node.join()
    await Promise.all(
      [...this.live.values()].map(async (live) => {
        const claim = { owner, generation: live.generation, keep: true }
        if (!(await directory.sessions.claim(live.id, claim))) await this.forget(live, true)
      }),
    )
  }

  /** Full, this node first lets the session go that has been idle for longest. */
  #hasRoom(): boolean {
    const { settings } = this.#options
    if (this.#lifecycle.size + this.#opening < settings.maxSessions) return true
    let idle: LiveSession | undefined
    for (const live of this.live.values()) {
      if (live.busy || live.listening) continue
      if (!idle || live.lastUsed < idle.lastUsed) idle = live
    }
    if (!idle) {
      settings.logger.warn({ maxSessions: settings.maxSessions }, 'a session was refused: this node is full')
      return false
    }
    const { id } = idle
    this.release(idle).catch((error: unknown) => {
      settings.logger.warn({ sessionId: id, error: errorText(error) }, 'a session could not be released')
    })
    return true
  }

  /**
   * Resolves when the session is not here any more, or after `most` ms. To wait for its next owner is to use it: it must not
   * expire meanwhile.
   */
  async left(live: LiveSession, most: number): Promise<void> {
    const until = monotonicNow() + most
    while (this.#holds(live) && monotonicNow() < until) {
      this.#options.onUse(live)
      await delay(10)
    }
    let settled = false
    void this.#lifecycle.settled(live.id).then(() => {
      settled = true
    })
    while (!settled && monotonicNow() < until) await delay(10)
  }

  #holds(live: LiveSession): boolean {
    return this.live.get(live.id) === live
  }

  #drop(live: LiveSession): void {
    this.live.delete(live.id)
    this.#held.leave(live.id, live.local.sessionId)
  }

  async #leave(id: string, retry: number): Promise<void> {
    const live = this.live.get(id)
    const action = this.#lifecycle.on(id, 'leave')
    if (action === 'release' && live) await this.#giveUp(live, async () => live.moveAway(retry))
    else await this.#lifecycle.settled(id)
  }

  /** The store first: when those who listen elsewhere hear of it, the session is to be had. */
  async #giveUp(live: LiveSession, stop: () => Promise<void>): Promise<void> {
    const { directory, settings } = this.#options
    this.#drop(live)
    // What runs has its record before anybody else can look for it. Where this process leaves, nobody here waits for that.
    await live.leaveCalls({ all: !this.draining })
    try {
      await directory.sessions.release(live.id, live.generation)
    } catch (error) {
      const facts = { sessionId: live.id, error: errorText(error) }
      settings.logger.warn(facts, 'a session could not be given up; it is free when this node has left')
    } finally {
      await stop()
      this.#lifecycle.on(live.id, 'released')
    }
  }

  async #stop(live: LiveSession, tellApp: boolean): Promise<void> {
    if (live.closed) return
    live.close()
    if (tellApp) await this.#farewells.say(live.local)
  }

  /** A session that is on its way may be given the same id by the app. */
  #isInUse({ publicId, sessionId }: LocalApp): boolean {
    const live = this.live.get(publicId)
    return live ? live.local.sessionId === sessionId : this.#lifecycle.has(publicId)
  }

  /** Undefined: somebody else was quicker, or this node leaves: look again. */
  async #claim(
    record: SessionRecord,
    owner: string,
    principal: Principals,
    caller: AppRequest,
  ): Promise<Found | undefined> {
    const { id, generation } = record
    let live: LiveSession | undefined
    try {
      await this.#farewells.silence(id)
      live = await this.#claims.claim({ id, generation, owner }, principal, caller)
    } catch (error) {
      this.#lifecycle.on(id, 'lost')
      if (error instanceof SessionLeft) return undefined
      if (error instanceof Refused) return { answer: error.answer }
      if (error instanceof NotTheirs) return MISSING
      if (isAppGone(error)) return AWAY()
      throw error
    }
    if (!live) {
      this.#lifecycle.on(id, 'lost')
      return undefined
    }
    // Before anything else can happen: whoever hears that it is settled finds it.
    this.live.set(id, live)
    if (this.#lifecycle.on(id, 'won') === 'serve') return { live }
    const given = live
    await this.#giveUp(given, () => this.#stop(given, true))
    return undefined
  }

  #newSession(record: NewSession & Begun, local: LocalApp): LiveSession {
    const { app, log, settings, directory, newTail, onUse } = this.#options
    const { sessions } = directory
    const { id } = record
    this.#held.hold(id, local.sessionId)
    const live: LiveSession = new LiveSession({
      ...record,
      app,
      local,
      log,
      settings,
      newTail,
      readDelivered: async () => (await sessions.get(id))?.delivered ?? 0,
      saveState: (state, principal) => sessions.update(id, live.generation, state, principal ?? undefined),
      onUse: () => onUse(live),
      onLost: () => void this.forget(live, true),
      onBroken: (call) => this.broken(live, call),
      mayRepeat: (requests) => mayRepeat(live.local, requests),
      onTerminated: async () => {
        await this.forget(live, false)
        await sessions.terminate(id, live.generation)
        if (settings.sticky) await log.delete(id)
      },
      onQuiet: () => {
        if (settings.idle > 0) return
        this.release(live).catch((error: unknown) => {
          settings.logger.warn({ sessionId: id, error: errorText(error) }, 'a session could not be released')
        })
      },
    })
    return live
  }
}

/** The store came back without it. */
function lost(id: string): Error {
  return new PersistError('STORE_UNAVAILABLE', `The store has lost session ${id}.`)
}

function full(): Answer {
  return refuse(503, 'This process has as many sessions as it may have; try again.', { retryAfter: 1 })
}

export type NewSession = Pick<SessionRecord, 'id' | 'principal' | 'state'>

type Begun = Pick<ClaimedSession, 'generation' | 'last' | 'delivered'>
