import { delay } from '../../clock.ts'
import { errorText, isPersistError } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { StopSignal } from '../../stop.ts'
import type { Elsewhere, SessionRequest } from '../live/handling.ts'
import { callerOf } from '../live/local-app.ts'
import type { OwnedSessions } from '../ownership/owned-sessions.ts'
import type { Answer } from '../protocol/answer.ts'
import type { Principals } from '../protocol/principal.ts'
import type { NewTail } from '../streams/new-tail.ts'
import { STANDALONE } from '../streams/stream.ts'
import type { Tail } from '../streams/tail.ts'
import type { Exchange, Said } from './exchange.ts'
import { digestOf, type FollowItem } from './follow.ts'
import { Forwarded } from './forwarded.ts'
import { type Question, type Reply, say, toWire } from './questions.ts'

export interface ForwarderOptions {
  readonly exchange: Exchange
  /** Best effort. */
  readonly send: (nodeId: string, item: FollowItem) => void
  /** Some node that can have a session in that format. */
  readonly another: (format: number) => Promise<string | undefined>
  readonly owned: OwnedSessions
  readonly newTail: NewTail
  readonly settings: Settings
}

/** What this node has under way at one owner. */
interface Owner {
  /** By the number of the question: followed streams, and requests whose answer may yet become one. */
  readonly forwarded: Map<number, Forwarded>
  /** News heard of it. */
  heard: number
  /** Beats and lists sent to it. */
  seq: number
}

/** How often the owner of a stream is looked for: it may change a few times in a row, not for ever. */
const MAX_SEARCHES = 10

/** What this node does for clients whose session lives at another: asks the owner, and serves its answers from the log. */
export class Forwarder {
  readonly #options: ForwarderOptions
  readonly #owners = new Map<string, Owner>()
  /** The streams of clients here; each is in the map of its owner, or looks for one. */
  readonly #streams = new Set<Forwarded>()
  /** Streams whose next owner is being looked for; true: look once more. */
  readonly #searching = new Map<Forwarded, boolean>()

  constructor(options: ForwarderOptions) {
    this.#options = options
  }

  /** `moved`: that node does not own the session. `Made`: it is lost, or has lost the session, and may have made the call. */
  async forward(nodeId: string, asked: SessionRequest, { take = false } = {}): Promise<Answer | Elsewhere> {
    const { sessionId, principal, streamId, again, request, gone } = asked
    const forwarded = this.#newForwarded(sessionId, principal, request)
    const more = take ? { take } : {}
    const wire = toWire(request)
    const question: Question = {
      kind: 'request',
      sessionId,
      principal,
      streamId,
      again,
      ...more,
      request: wire,
    }
    const { reply, body } = await this.#ask(nodeId, forwarded, question, { body: request.body, gone })
    switch (reply.kind) {
      // It recorded what came from here before it made it.
      case 'gone':
        return 'recorded'
      case 'moved':
        return reply.again ?? 'moved'
      case 'answer':
        return { status: reply.status, headers: reply.headers, body: body ?? '' }
      case 'stream': {
        const { status, headers, stream } = reply
        return { status, headers, tail: this.#open(forwarded, stream) }
      }
      default:
        throw new Error(`A request was answered with: ${reply.kind}.`)
    }
  }

  receive(from: string, item: FollowItem): void {
    const owner = this.#owners.get(from)
    if (!owner) return
    switch (item.type) {
      case 'news': {
        const { count, to, news } = item
        owner.forwarded.get(to)?.hear(news)
        // A late one fills no gap that is not read already.
        if (count <= owner.heard) return
        const missed = count !== owner.heard + 1
        owner.heard = count
        if (missed) this.#look(owner)
        return
      }
      case 'told':
        if (item.count === owner.heard) return
        owner.heard = item.count
        return void this.#look(owner)
      case 'which': {
        owner.seq += 1
        const { exchange, send } = this.#options
        // Not those without an answer: one may be here, in the same bundle even, and its stream about to begin.
        const open = [...owner.forwarded.keys()].filter((id) => !owner.forwarded.get(id)!.tail)
        return void send(from, {
          type: 'list',
          seq: owner.seq,
          ids: followedBy(owner),
          open,
          next: exchange.nextId(from),
        })
      }
      case 'unknown':
        for (const id of item.ids) {
          const forwarded = owner.forwarded.get(id)
          owner.forwarded.delete(id)
          if (forwarded?.tail) void this.#search(forwarded)
        }
    }
  }

  /** Says to every owner that something here depends on what is followed there; so it is found out, too, who is gone. */
  beat(): void {
    const { exchange, send } = this.#options
    const waiting = new Set(exchange.waitingFor())
    for (const [nodeId, owner] of this.#owners) {
      const ids = followedBy(owner)
      if (ids.length === 0 && !waiting.has(nodeId)) continue
      owner.seq += 1
      send(nodeId, { type: 'beat', seq: owner.seq, heard: owner.heard, digest: digestOf(ids) })
    }
  }

  /** Anybody's news may have been missed. */
  missed(): void {
    for (const { tail } of this.#streams) tail?.nudge()
  }

  /** That owner is gone: its streams look for the next one. */
  gone(nodeId: string): void {
    const owner = this.#owners.get(nodeId)
    this.#owners.delete(nodeId)
    for (const forwarded of owner?.forwarded.values() ?? []) if (forwarded.tail) void this.#search(forwarded)
  }

  /** This node gives its id up: what is on its way to it is lost, and the owners take it for gone. */
  hangUp(): void {
    this.#owners.clear()
  }

  /** It has another one: everybody is asked again. */
  searchAll(): void {
    for (const forwarded of this.#streams) if (!this.#isPlaced(forwarded)) void this.#search(forwarded)
  }

  /** Does a client here wait for an answer from elsewhere? */
  get busy(): boolean {
    if (this.#options.exchange.wanted) return true
    return [...this.#streams].some(({ tail }) => tail?.streamId !== STANDALONE)
  }

  keepAlive(): void {
    for (const { tail } of this.#streams) tail?.keepAlive()
  }

  /** Ends the standalone streams of the clients here, which would last for ever. */
  cutStandalone(retry: number): void {
    for (const { tail } of [...this.#streams]) if (tail?.streamId === STANDALONE) tail.cut(retry)
  }

  /**
   * Where nothing is left that was asked for before `moment` (monotonic ms), ends the streams of what came later, if their
   * clients can come again: elsewhere, for this node is about to leave.
   */
  cutSince(moment: number, retry: number): void {
    const streams = [...this.#streams].filter(({ tail }) => tail?.streamId !== STANDALONE)
    if (streams.some(({ since }) => since < moment)) return
    for (const { tail } of streams) if (tail?.resumable) tail.cut(retry)
  }

  /** Ends the streams of all clients here; they come again elsewhere. */
  close(retry: number): void {
    for (const { tail } of [...this.#streams]) tail?.cut(retry)
  }

  /** Its stream and its news: the owner is asked, and until it has answered the news are kept. */
  async #ask(
    nodeId: string,
    forwarded: Forwarded,
    question: Question,
    { body, gone }: { body?: Uint8Array | undefined; gone?: StopSignal | undefined } = {},
  ): Promise<{ reply: Reply | { kind: 'gone' }; body?: Uint8Array | undefined }> {
    const owner = this.#owner(nodeId)
    let number = 0
    let said: Said | 'gone' = 'gone'
    try {
      const begin = (id: number) => {
        // It may be followed already, and looked for once more: what nobody remembers nobody could end.
        this.#leavePlace(forwarded)
        number = id
        owner.forwarded.set(id, forwarded)
        forwarded.place = { nodeId, id }
      }
      said = await this.#options.exchange.ask(nodeId, say(question, body), begin, gone)
    } finally {
      const kind = said === 'gone' ? 'gone' : (said.content as Reply).kind
      if (kind !== 'stream' && kind !== 'following') owner.forwarded.delete(number)
    }
    return said === 'gone' ? { reply: { kind: 'gone' } } : { reply: said.content as Reply, body: said.body }
  }

  #open(forwarded: Forwarded, stream: Parameters<NewTail>[1]): Tail {
    const tail = this.#options.newTail(forwarded.sessionId, stream, () => this.#left(forwarded))
    this.#streams.add(forwarded)
    forwarded.begin(tail)
    // Between the answer and this moment its owner may have gone.
    if (!tail.closed && !this.#isPlaced(forwarded)) void this.#search(forwarded)
    return tail
  }

  #left(forwarded: Forwarded): void {
    this.#streams.delete(forwarded)
    const { place, tail } = forwarded
    if (!place || !this.#isPlaced(forwarded)) return
    this.#owners.get(place.nodeId)?.forwarded.delete(place.id)
    // Where the owner has ended it, it knows. Otherwise it is told at once, and should that be lost, by the next beat.
    if (forwarded.over) return
    this.#options.send(place.nodeId, { type: 'left', id: place.id, delivered: tail?.delivered ?? 0 })
  }

  #leavePlace(forwarded: Forwarded): void {
    const { place } = forwarded
    if (place && this.#isPlaced(forwarded)) this.#owners.get(place.nodeId)!.forwarded.delete(place.id)
  }

  #isPlaced(forwarded: Forwarded): boolean {
    const { place } = forwarded
    return place !== undefined && this.#owners.get(place.nodeId)?.forwarded.get(place.id) === forwarded
  }

  /**
   * The owner of a stream that is served here is gone, or does not feed it any more. Whoever serves a client of the
   * session claims it without waiting for a request, in the name of the client's own last one; the client notices nothing.
   */
  async #search(forwarded: Forwarded): Promise<void> {
    const { tail } = forwarded
    this.#leavePlace(forwarded)
    // One at a time for each stream; what comes meanwhile makes it look once more.
    if (this.#searching.has(forwarded)) return void this.#searching.set(forwarded, true)
    const { logger, retryInterval } = this.#options.settings
    let found = false
    for (let attempt = 1; attempt <= MAX_SEARCHES && !found && !tail!.closed; attempt += 1) {
      if (attempt > 1) await delay(20 * attempt)
      this.#searching.set(forwarded, false)
      try {
        found = (await this.#find(forwarded, tail!)) && !this.#searching.get(forwarded)
      } catch (error) {
        const facts = { sessionId: forwarded.sessionId, error: errorText(error) }
        logger.warn(facts, 'the owner of a stream could not be found')
        if (!isPersistError(error, 'STORE_UNAVAILABLE')) break
      }
    }
    this.#searching.delete(forwarded)
    // Its client looks for an owner itself.
    if (!found) tail!.cut(retryInterval)
  }

  /** True: somebody feeds the stream again, or it is over. */
  async #find(forwarded: Forwarded, tail: Tail): Promise<boolean> {
    const { another, owned, settings } = this.#options
    const { sessionId, principal, caller } = forwarded
    const found = await owned.find(sessionId, principal, caller)
    const heir = 'free' in found ? await another(found.free) : undefined
    if (tail.closed) return true
    if ('owner' in found) return this.#follow(found.owner, forwarded, tail)
    if (heir !== undefined) return this.#follow(heir, forwarded, tail, { take: true })
    if ('live' in found) {
      this.#streams.delete(forwarded)
      found.live.audience.adopt(tail)
    } else if ('missing' in found) tail.close()
    else tail.cut(settings.retryInterval)
    return true
  }

  async #follow(
    nodeId: string,
    forwarded: Forwarded,
    tail: Tail,
    how: { take?: true } = {},
  ): Promise<boolean> {
    const { sessionId, principal, caller } = forwarded
    const request = toWire(caller)
    const { streamId } = tail
    const question: Question = { kind: 'follow', sessionId, streamId, principal, ...how, request }
    const { reply } = await this.#ask(nodeId, forwarded, question)
    if (tail.closed) {
      if (reply.kind === 'following') this.#left(forwarded)
      return true
    }
    switch (reply.kind) {
      case 'following':
        // What was stored between our last look and this moment was told to nobody.
        if (reply.finite) tail.endAfterStored()
        else tail.nudge()
        return true
      case 'missing':
        tail.close()
        return true
      case 'cut':
        tail.cut(reply.retry)
        return true
      default:
        return false
    }
  }

  #look(owner: Owner): void {
    for (const forwarded of owner.forwarded.values()) forwarded.look()
  }

  #newForwarded(sessionId: string, principal: Principals, request: SessionRequest['request']): Forwarded {
    return new Forwarded({
      sessionId,
      principal,
      caller: callerOf(request),
      onOrphaned: (forwarded) => void this.#search(forwarded),
    })
  }

  #owner(nodeId: string): Owner {
    let owner = this.#owners.get(nodeId)
    if (!owner) {
      owner = { forwarded: new Map(), heard: 0, seq: 0 }
      this.#owners.set(nodeId, owner)
    }
    return owner
  }
}

/** The streams followed at an owner; not the requests that have no answer yet. */
function followedBy({ forwarded }: Owner): number[] {
  return [...forwarded].filter(([, { tail }]) => tail !== undefined).map(([id]) => id)
}
