import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText, PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { NodeTable } from '../../store/port.ts'

export interface Identity {
  readonly id: string
  readonly privateKey: KeyObject
  readonly publicKey: string
}

export interface NodeEvents {
  /** Before it is registered under a new id: what is said to that id must be heard from then on. */
  readonly onJoining: (identity: Identity) => Promise<void>
  /** What this node says of itself to the others. */
  readonly profile: string
  /** The lease was over: sessions held until now must be claimed again, or stopped. */
  readonly onLapsed: () => Promise<void>
}

// Milliseconds. The store's connections come back at the latest this long after the store itself.
const COMEBACK = 2000
/** After a renewal that failed the next one comes soon: the store may be back any moment. */
const RETRY = 250

/**
 * This process among its peers: registered under a random id, with a lease that the store's clock measures.
 *
 * The lease is trusted on our monotonic clock from when the renewal *started*, so that we think it over before anybody
 * else does. When the store says that it is over, the id is dead for good (its sessions may be somebody's by now) and
 * the node comes back under another.
 */
export class Membership {
  readonly #nodes: NodeTable
  readonly #lease: number
  readonly #logger: Logger
  readonly #events: NodeEvents
  #identity: Identity | undefined
  #joining: Promise<Identity> | undefined
  #trustedUntil = 0
  #settledAt = 0
  #away = false
  #timer: NodeJS.Timeout | undefined
  #renewing: Promise<void> | undefined
  /** It lapsed, and what that means for its sessions is not settled yet. */
  #lapsed = false
  #closed = false

  constructor(nodes: NodeTable, lease: number, logger: Logger, events: NodeEvents) {
    this.#nodes = nodes
    this.#lease = lease
    this.#logger = logger
    this.#events = events
  }

  /** Registers on first use. Rejects when the store does. */
  async join(): Promise<Identity> {
    if (this.#identity) return this.#identity
    if (this.#closed) throw new PersistError('STORE_CLOSED', 'This process is shutting down.')
    this.#joining ??= this.#register().finally(() => {
      this.#joining = undefined
    })
    return this.#joining
  }

  /** The current id, if the node has joined. */
  get id(): string | undefined {
    return this.#identity?.id
  }

  /** False: nobody knows whether our sessions are still ours; `confirm()` first. */
  get trusted(): boolean {
    return !this.#lapsed && monotonicNow() < this.#trustedUntil
  }

  /**
   * The store has said that the lease was over, and which of our sessions somebody else has meanwhile is not settled.
   * (While a store that does not answer has said nothing of the kind: then nobody can claim anything, and they are ours.)
   */
  get lapsed(): boolean {
    return this.#lapsed
  }

  /**
   * While the store was away nobody could renew. A lease that ran out meanwhile says nothing about its node, which needs
   * a moment to come back: until then nothing is to be claimed from it. True: that moment is over now, so look again.
   * False: there was nothing to wait for. (A store that is away long enough for a lease to run out is noticed here, as a
   * renewal is due every third of a lease.)
   */
  async settle(): Promise<boolean> {
    await this.#renewing
    const wait = this.#settledAt - monotonicNow()
    if (wait <= 0) return false
    await delay(wait)
    return true
  }

  /** Asks the store, and takes note of whether it answers: of a node that has not joined nothing else tells. */
  async noting<T>(ask: () => Promise<T>): Promise<T> {
    const started = monotonicNow()
    try {
      const answer = await ask()
      this.#noteAnswer(started)
      return answer
    } catch (error) {
      this.#noteAnswer(started, true)
      throw error
    }
  }

  /** The store has answered, or failed to answer, what it was asked at `started`. */
  #noteAnswer(started: number, failed = false): void {
    const now = monotonicNow()
    if (failed || this.#away || now - started > Math.min(1000, this.#lease / 10)) {
      this.#settledAt = now + Math.min(COMEBACK, this.#lease / 2)
    }
    this.#away = failed
  }

  /** Asks the store whether the lease still runs. Settles when it is known, or when the store does not answer. */
  async confirm(): Promise<void> {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = undefined
    })
    return this.#renewing
  }

  async leave(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    // One that is on its way must be waited for, or its node would stay behind.
    await this.#renewing?.catch(() => {})
    await this.#joining?.catch(() => {})
    const id = this.#identity?.id
    this.#identity = undefined
    if (id !== undefined) await this.#nodes.unregister(id)
  }

  async #register(): Promise<Identity> {
    const { privateKey, publicKey } = generateKeyPairSync('x25519')
    const exported = publicKey.export({ type: 'spki', format: 'der' }).toString('base64url')
    const identity = { id: randomBytes(9).toString('base64url'), privateKey, publicKey: exported }
    // Nobody learns of an id that is deaf: should either fail, the next try has another.
    await this.#events.onJoining(identity)
    const started = monotonicNow()
    const { id, publicKey: key } = identity
    await this.#nodes.register({ id, publicKey: key, profile: this.#events.profile }, this.#lease)
    this.#noteAnswer(started)
    this.#identity = identity
    this.#trustedUntil = started + this.#lease
    this.#schedule()
    return identity
  }

  #schedule(ms = this.#lease / 3): void {
    clearTimeout(this.#timer)
    if (this.#closed) return
    this.#timer = setTimeout(() => void this.confirm(), ms)
    this.#timer.unref()
  }

  async #renew(): Promise<void> {
    if (this.#closed || (this.#identity === undefined && !this.#lapsed)) return
    const started = monotonicNow()
    try {
      const { id } = await this.join()
      const renewed = await this.#nodes.renew(id, this.#lease)
      this.#noteAnswer(started)
      if (renewed) {
        this.#trustedUntil = started + this.#lease
      } else if (!this.#closed) {
        this.#logger.warn({ node: id }, 'the lease of this node was over; it comes back under a new id')
        this.#identity = undefined
        this.#lapsed = true
        await this.join()
      }
      if (this.#lapsed && !this.#closed) {
        await this.#events.onLapsed()
        this.#lapsed = false
      }
    } catch (error) {
      // Nobody can claim anything while the store is down: live sessions go on, and this is tried again.
      this.#noteAnswer(started, true)
      this.#logger.error(
        { operation: 'renew', node: this.id, error: errorText(error) },
        'the lease could not be renewed',
      )
      return this.#schedule(Math.min(RETRY, this.#lease / 3))
    }
    this.#schedule()
  }
}
