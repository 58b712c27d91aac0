import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import { nodeChannel, type Subscription } from '../../store/port.ts'
import type { Terminated } from '../../store/shared/announced-sessions.ts'
import type { Elsewhere, OwnerAnswer, SessionRequest } from '../live/handling.ts'
import type { Identity } from '../ownership/membership.ts'
import type { Directory, OwnedSessions } from '../ownership/owned-sessions.ts'
import type { WholeAnswer } from '../protocol/answer.ts'
import type { NewTail } from '../streams/new-tail.ts'
import { Exchange, type ExchangeItem } from './exchange.ts'
import { BEAT, type FollowItem } from './follow.ts'
import { Followers } from './followers.ts'
import { Forwarder } from './forwarder.ts'
import { Link } from './link.ts'
import { OwnerEndpoint } from './owner-endpoint.ts'

export interface PeersOptions {
  readonly directory: Directory
  readonly settings: Settings
  readonly owned: OwnedSessions
  readonly newTail: NewTail
  /** Answers a request for a session that this node owns, or may take. */
  readonly serve: (request: SessionRequest, take: boolean) => Promise<OwnerAnswer | Elsewhere>
  /** What a client hears of an error of ours. */
  readonly failure: (requestId: string, error: unknown) => WholeAnswer
}

type PeerItem =
  | ExchangeItem
  | FollowItem
  /** The sender leaves: whoever depends on it does not have to find out. */
  | { readonly type: 'bye'; readonly size?: number }

/** Ids of nodes that are gone, whose late words are not heard. */
const MAX_GONE = 1000

/** The other nodes: the way to them, what is asked of them and by them, and who of them is gone. */
export class Peers {
  readonly #options: PeersOptions
  readonly #link: Link<PeerItem>
  readonly #exchange: Exchange
  readonly #followers: Followers
  readonly forwarder: Forwarder
  readonly #gone = new Set<string>()
  /** The nodes that something was said to or heard of. */
  readonly #known = new Set<string>()
  #announcements: Subscription | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false
  #identity: Identity | undefined

  constructor(options: PeersOptions) {
    const { directory, settings, owned, newTail, serve, failure } = options
    const { bus, nodes } = directory
    const { logger } = settings
    this.#options = options
    this.#link = new Link<PeerItem>({
      bus,
      nodes,
      logger,
      onItem: (from, item, body) => this.#onItem(from, item, body),
      onGone: (nodeId) => this.#onGone(nodeId),
      onMissed: () => this.forwarder.missed(),
    })
    const send = (nodeId: string, item: PeerItem, body?: Uint8Array) => {
      this.#known.add(nodeId)
      this.#link.send(nodeId, item, body)
    }
    this.#followers = new Followers({ send })
    const endpoint = new OwnerEndpoint({ owned, followers: this.#followers, settings, serve, failure })
    this.#exchange = new Exchange({
      send,
      onQuestion: (from, id, question) => endpoint.onQuestion(from, id, question),
    })
    this.forwarder = new Forwarder({ exchange: this.#exchange, send, owned, newTail, settings })
  }

  /** Hears what is said to `identity` from now on. Rejects when it cannot: then nobody must learn of that identity. */
  async open(identity: Identity): Promise<void> {
    await this.#hangUp()
    await this.#link.open(identity)
    this.#identity = identity
    this.#announcements = await this.#options.directory.bus.subscribe(nodeChannel(identity.id), (text) =>
      this.#onAnnouncement(text),
    )
    if (this.#timer || this.#closed) return
    this.#timer = setInterval(() => this.#beat(), Math.min(this.#options.settings.lease / 3, BEAT))
    this.#timer.unref()
  }

  /** Some other node, and none of `except`; undefined: there is none. */
  async another(except: ReadonlySet<string>): Promise<string | undefined> {
    const { directory, settings } = this.#options
    try {
      const others = (await directory.nodes.list()).filter(
        ({ id }) => id !== this.#identity?.id && !this.#gone.has(id) && !except.has(id),
      )
      return others[Math.floor(Math.random() * others.length)]?.id
    } catch (error) {
      settings.logger.warn(
        { operation: 'list', error: errorText(error) },
        'it cannot be seen which other nodes there are',
      )
      return undefined
    }
  }

  /** Ends what is served here, and says goodbye. */
  async close(retry: number): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    this.forwarder.close(retry)
    for (const nodeId of this.#known) this.#link.send(nodeId, { type: 'bye' })
    await this.#hangUp()
  }

  async #hangUp(): Promise<void> {
    // Nobody hears the answers that are still to come.
    this.#exchange.reset()
    this.forwarder.hangUp()
    this.#followers.reset()
    const announcements = this.#announcements
    this.#announcements = undefined
    await this.#link.close()
    await announcements?.close()
    this.#known.clear()
  }

  #beat(): void {
    this.forwarder.beat()
    this.#followers.tick()
  }

  #onItem(from: string, item: PeerItem, body: Uint8Array | undefined): void {
    if (this.#gone.has(from)) return
    this.#known.add(from)
    switch (item.type) {
      case 'bye':
        return void this.#onGone(from)
      case 'beat':
      case 'list':
      case 'left':
        return void this.#followers.receive(from, item)
      case 'news':
      case 'told':
      case 'which':
      case 'unknown':
        return void this.forwarder.receive(from, item)
      default:
        return void this.#exchange.receive(from, item, body)
    }
  }

  /** Ids are never used again, so what is gone is gone for good: a late question of it must not be worked at. */
  #onGone(nodeId: string): void {
    // Also when that is known: a store that came back without its last moments may still name it, and it was asked again.
    if (!this.#gone.has(nodeId) && this.#gone.size >= MAX_GONE)
      this.#gone.delete(this.#gone.values().next().value!)
    this.#gone.add(nodeId)
    this.#known.delete(nodeId)
    this.#link.forget(nodeId)
    this.#exchange.gone(nodeId)
    this.#followers.gone(nodeId)
    this.forwarder.gone(nodeId)
  }

  #onAnnouncement(text: string | undefined): void {
    if (text === undefined) return
    const { owned, settings } = this.#options
    try {
      const { terminated } = JSON.parse(text) as Terminated
      const live = owned.live.get(terminated)
      if (live) void owned.forget(live, true)
    } catch (error) {
      settings.logger.warn({ error: errorText(error) }, 'an announcement was not understood')
    }
  }
}
