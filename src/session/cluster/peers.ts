import { errorText, PersistError } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { Terminated } from '../../store/common/announced-sessions.ts'
import { nodeChannel, type Subscription } from '../../store/port.ts'
import { commonVersion, isIn, MESSAGES, readProfile } from '../../versions.ts'
import type { Elsewhere, OwnerAnswer, SessionRequest } from '../live/handling.ts'
import type { Directory } from '../ownership/directory.ts'
import type { Identity } from '../ownership/membership.ts'
import type { OwnedSessions } from '../ownership/owned-sessions.ts'
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

/** Ids of nodes that are remembered for being gone, or for what they speak. */
const MAX_REMEMBERED = 1000

/** The other nodes: the way to them, what is asked of them and by them, and who of them is gone. */
export class Peers {
  readonly #options: PeersOptions
  readonly #link: Link<PeerItem>
  readonly #exchange: Exchange
  readonly #followers: Followers
  readonly forwarder: Forwarder
  /** Their late words are not heard. */
  readonly #gone = new Set<string>()
  /** They are there, and nothing that is said to them is understood. */
  readonly #strangers = new Set<string>()
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
      onNotSpoken: (nodeId) => this.#onNotSpoken(nodeId),
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
      onQuestion: (from, id, question, gone) => endpoint.onQuestion(from, id, question, gone),
    })
    const another = (format: number) => this.another(new Set(), format)
    this.forwarder = new Forwarder({ exchange: this.#exchange, send, another, owned, newTail, settings })
  }

  /** Hears what is said to `identity` from now on. Rejects when it cannot: then nobody must learn of that identity. */
  async open(identity: Identity): Promise<void> {
    await this.#hangUp()
    try {
      await this.#link.open(identity)
      this.#identity = identity
      this.#announcements = await this.#options.directory.bus.subscribe(nodeChannel(identity.id), (text) =>
        this.#onAnnouncement(text),
      )
      if (this.#closed) throw new PersistError('STORE_CLOSED', 'This process is shutting down.')
    } catch (error) {
      // Closed meanwhile, that did not know of what was opened here.
      await this.#hangUp()
      throw error
    }
    if (this.#timer) return
    this.#timer = setInterval(() => this.#beat(), Math.min(this.#options.settings.lease / 3, BEAT))
    this.#timer.unref()
  }

  /** Is it a node that has no version of messages in common with this one? */
  isStranger(nodeId: string): boolean {
    return this.#strangers.has(nodeId)
  }

  /** Some other node that can have a session in that format, and none of `except`; undefined: there is none. */
  async another(except: ReadonlySet<string>, format: number): Promise<string | undefined> {
    const { directory, settings } = this.#options
    const isFit = (profile: string) => {
      const { messages, formats } = readProfile(profile)
      return commonVersion(MESSAGES, messages) !== undefined && isIn(formats, format)
    }
    try {
      const others = (await directory.nodes.list()).filter(
        ({ id, profile }) =>
          id !== this.#identity?.id && !this.#gone.has(id) && !except.has(id) && isFit(profile),
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
    // Nobody hears the answers that are still to come; and what still arrives, while the last words go out, would be
    // answered in the name of somebody who is not there any more.
    this.#identity = undefined
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
    if (this.#gone.has(from) || !this.#identity) return
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
    remember(this.#gone, nodeId)
    this.#link.forget(nodeId)
    this.#lost(nodeId)
  }

  #onNotSpoken(nodeId: string): void {
    remember(this.#strangers, nodeId)
    this.#lost(nodeId)
  }

  /**
   * Also when that is known: it may have been asked since, by who had read in the store that it was there. A store that came
   * back without its last moments may name it long after.
   */
  #lost(nodeId: string): void {
    this.#known.delete(nodeId)
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

function remember(ids: Set<string>, nodeId: string): void {
  if (ids.size >= MAX_REMEMBERED && !ids.has(nodeId)) ids.delete(ids.values().next().value!)
  ids.add(nodeId)
}
