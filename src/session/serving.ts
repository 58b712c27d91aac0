import { type App, AppAway, type AppRequest, isAppGone } from '../app/app.ts'
import { delay, monotonicNow } from '../clock.ts'
import type { Settings } from '../options.ts'
import { FORMATS, isIn } from '../versions.ts'
import { KnownOwners } from './cluster/known-owners.ts'
import type { Peers } from './cluster/peers.ts'
import { isPassing } from './failure.ts'
import { NotTheirs } from './live/binding.ts'
import type { Elsewhere, OwnerAnswer, SessionRequest } from './live/handling.ts'
import type { LiveSession } from './live/live-session.ts'
import { LocalSessionLost } from './live/local-app.ts'
import { SessionLeft } from './live/session-left.ts'
import type { Found, OwnedSessions } from './ownership/owned-sessions.ts'
import { type Answer, appAway, otherRelease, shuttingDown, unavailable } from './protocol/answer.ts'
import { interruptedAnswer } from './protocol/interrupted.ts'
import { isRequest, type Request, toMessages } from './protocol/json-rpc.ts'
import { newStreamId } from './streams/stream.ts'

// Milliseconds between looks for what became of a call that cannot be found out at the moment.
const SETTLING = 100
/** For so long: about a minute, as a stream waits for its log. Then its client is told that nobody knows. */
const OWED = 60_000
/** Milliseconds in which another process may turn up, for a new call that comes to one that drains. */
const HEIR = 500

/** Times that a session is rehydrated for one request. */
const MAX_REHYDRATED = 3

export interface ServingOptions {
  readonly app: App
  readonly settings: Settings
  readonly owned: OwnedSessions
  readonly peers: Peers
  /** What a caller hears of a session that is none of his. */
  readonly notFound: (caller: AppRequest) => Promise<Answer>
}

/** One search for the owner of a request's session. */
interface Search {
  /** Nodes that would not take it: they drain, or their app is away too. */
  readonly unwilling: Set<string>
  /** Nobody else would. */
  alone: boolean
  /** Monotonic ms. */
  readonly heirBy: number
  /** Milliseconds that an owner took: they are no part of the search. */
  waited: number
}

/** Nobody's, in that format. */
type Free = Extract<Found, { readonly free: number }>

/** A request of a session, from the search for its owner to the answer: here, or at another node. */
export class Serving {
  readonly #options: ServingOptions
  readonly #owners = new KnownOwners()
  /** Monotonic ms: until then calls that run may end; new ones are for the next owner. */
  drainsUntil: number | undefined

  constructor(options: ServingOptions) {
    this.#options = options
  }

  /** Here or at the owner; and at the next owner, when that one is lost on the way. */
  async serve(given: SessionRequest): Promise<Answer> {
    const { settings } = this.#options
    const began = monotonicNow()
    const search: Search = { unwilling: new Set(), alone: false, heirBy: began + HEIR, waited: 0 }
    let asked = given
    const isLate = () => {
      const most = this.#isOwed(asked) ? OWED : settings.lease * 2 + 5000
      return monotonicNow() - began - search.waited >= most
    }
    while (!isLate() && !asked.gone?.stopped) {
      // Records expire. Of one that may have, nobody can tell whether it was never written; half of the ttl is for the way.
      if (asked.again === 'recorded' && monotonicNow() - began >= settings.ttl / 2)
        asked = { ...asked, again: 'unrecorded' }
      const answer = await this.#serveOnce(asked, search)
      if (typeof answer === 'object') return answer
      if (answer === 'look') continue
      // What may have been made without a record stays so, whoever is asked next.
      if (answer === 'unrecorded' || (answer === 'recorded' && !asked.again))
        asked = { ...asked, again: answer }
      // Nothing was made of it, and what its record says is over.
      else if (answer === 'moved' && !asked.again) asked = { ...asked, streamId: newStreamId() }
      await delay(answer === 'wait' ? SETTLING : 20)
    }
    if (this.#isOwed(asked)) return interruptedAnswer(callsIn(asked.request))
    return unavailable('The session has no owner that answers.')
  }

  /**
   * `look`: the session may be somewhere else by now. `wait`: where it is, or what became of the call, cannot be found out at
   * the moment.
   */
  async #serveOnce(asked: SessionRequest, search: Search): Promise<Answer | Elsewhere | 'look' | 'wait'> {
    const { sessionId, endpoint, principal, request } = asked
    const isOwed = this.#isOwed(asked)
    // What leaves finds nothing out any more.
    const waited = () => (this.#options.owned.draining ? interruptedAnswer(callsIn(request)) : 'wait')
    try {
      // Nearly every request needs nothing but a look at what is here.
      const live = this.#options.owned.here(sessionId, principal, endpoint)
      const found = live ? { live } : (this.#known(asked) ?? (await this.#find(asked, search)))
      if ('answer' in found) {
        if (!isOwed || found.answer.status !== 503) return found.answer
        // The app of another node may be back.
        search.unwilling.clear()
        search.alone = false
        return waited()
      }
      if ('missing' in found) return await this.#options.notFound(request)
      if ('moved' in found) return 'look'
      const since = monotonicNow()
      try {
        // To a client of this process the owner answers with a tail; a reference to a stream is for other nodes.
        if ('live' in found) return (await this.#serveOwn(asked, found)) as Answer | Elsewhere
        // Nobody would collect the reply.
        if (this.#options.owned.draining) return isOwed ? waited() : shuttingDown()
        const take = 'free' in found
        const owner = take ? await this.#options.peers.another(search.unwilling, found.free) : found.owner
        if (owner === undefined) return this.#isLeftAlone(asked, found as Free, search)
        const answer = await this.#options.peers.forwarder.forward(owner, asked, { take })
        if (typeof answer === 'object') {
          this.#owners.answered(asked, owner)
          return answer
        }
        this.#owners.forget(asked)
        if (this.#options.peers.isStranger(owner)) return isOwed ? 'wait' : otherRelease()
        if (take) search.unwilling.add(owner)
        return answer
      } finally {
        // How long an owner takes is its own affair: a call that waits for the end of a drain has not been looking for one.
        search.waited += monotonicNow() - since
      }
    } catch (error) {
      if (isOwed && isPassing(error)) return waited()
      throw error
    }
  }

  /** Of a request that may have been made, the store knows where it is to be settled. */
  #known(asked: SessionRequest): { readonly owner: string } | undefined {
    const owner = asked.again ? undefined : this.#owners.get(asked)
    return owner === undefined ? undefined : { owner }
  }

  /**
   * A process that drains, or whose app is away, lets others take what it has let go. And a new call is none for a process that
   * drains, also where nobody else is there (yet): claimed for it, the session would be given up again at once.
   */
  #find(asked: SessionRequest, { alone }: Search): Promise<Found> {
    const { sessionId, endpoint, principal, request } = asked
    const claim = !this.#isForHeir(asked) && (alone || !this.#yields)
    return this.#options.owned.find(sessionId, principal, request, { claim, endpoint })
  }

  /** Nobody else would take the session. */
  #isLeftAlone(asked: SessionRequest, { free }: Free, search: Search): Answer | 'look' | 'wait' {
    if (!isIn(FORMATS.reads, free))
      return this.#isOwed(asked) ? 'wait' : this.#unreadable(asked.sessionId, free)
    if (!this.#isForHeir(asked)) {
      search.alone = true
      return 'look'
    }
    // Another process may turn up, or have thought better of it.
    search.unwilling.clear()
    return monotonicNow() < search.heirBy + search.waited ? 'wait' : shuttingDown()
  }

  /**
   * A call that the app may have been told of: "try again" would be a lie. It is settled by whoever has an app for it, this
   * node or another, and its answer will be in the log: so whatever stands in the way is waited for.
   */
  #isOwed({ again, request }: SessionRequest): boolean {
    return again !== undefined && callsIn(request).length > 0
  }

  /** A new call, and this process drains. One that may have been made already is settled by whoever has the session. */
  #isForHeir(asked: SessionRequest): boolean {
    return this.drainsUntil !== undefined && !this.#isOwed(asked) && callsIn(asked.request).length > 0
  }

  /** It waits in the store for a process that can. */
  #unreadable(sessionId: string, format: number): Answer {
    this.#options.settings.logger.error(
      { sessionId, format, reads: FORMATS.reads },
      'a session is stored in a format that this release does not read, and no process that does is there',
    )
    return otherRelease()
  }

  async serveForwarded(asked: SessionRequest, take: boolean): Promise<OwnerAnswer | Elsewhere> {
    if (take && this.#yields) return 'moved'
    return this.#serveOwn(asked, { own: !take }).catch((error: unknown) => {
      if (this.#isOwed(asked) && isPassing(error)) return 'recorded'
      throw error
    })
  }

  /** `live`: it was found a moment ago. `own`: take no session that the store does not say is ours. */
  async #serveOwn(
    asked: SessionRequest,
    { live, own = false }: { live?: LiveSession; own?: boolean },
  ): Promise<OwnerAnswer | Elsewhere> {
    const { sessionId, endpoint, principal, request } = asked
    let how = asked
    for (let attempt = 1; ; attempt += 1) {
      const known = attempt === 1 && live && !live.closed ? { live } : undefined
      const found =
        known ?? (await this.#options.owned.find(sessionId, principal, request, { own, endpoint }))
      if ('answer' in found) {
        if (this.#isOwed(asked) && found.answer.status === 503) return 'recorded'
        // Whoever has asked looks for a node whose app is there.
        return found.away && !own ? 'moved' : found.answer
      }
      if ('missing' in found) return this.#options.notFound(request)
      if (!('live' in found)) return 'moved'
      if (this.#isForHeir(asked)) {
        await this.#options.owned.left(found.live, this.drainsUntil! - monotonicNow())
        return 'moved'
      }
      try {
        return await found.live.handle(request, how)
      } catch (error) {
        if (error instanceof NotTheirs) return this.#options.notFound(request)
        if (error instanceof SessionLeft) return error.made ?? 'moved'
        if (isAppGone(error)) {
          // It may be shutting down, and the calls that run in the session be about to end.
          const refusal = this.#isOwed(asked) ? 'recorded' : appAway()
          if (error instanceof AppAway && found.live.calls > 0 && this.#isAway) return refusal
          await this.#options.owned.broken(found.live)
          // Nothing was asked of the app: it may be asked where it is. What broke off under anything but a call is the client's to
          // repeat: it may be what broke the app.
          return error instanceof AppAway ? 'moved' : refusal
        }
        if (!(error instanceof LocalSessionLost)) throw error
        // The app has swept its own session (or was restarted, perhaps once more): it is rehydrated as after a crash. One that
        // loses it time and again keeps no sessions, and says so itself.
        if (attempt > MAX_REHYDRATED) return this.#options.notFound(request)
        await this.#options.owned.forget(found.live, false)
        const { nextStreamId: streamId, made } = error
        if (made) return made
        if (streamId !== undefined) how = { ...asked, again: undefined, streamId }
      }
    }
  }

  get #isAway(): boolean {
    return this.#options.app.presence?.away === true
  }

  /** Sessions that are nobody's are for other nodes. */
  get #yields(): boolean {
    return this.drainsUntil !== undefined || this.#isAway
  }
}

/** Something new for the app to do, and not a part of what it does already. */
function callsIn({ method, parsed }: AppRequest): readonly Request[] {
  return method === 'POST' ? (toMessages(parsed) ?? []).filter(isRequest) : []
}
