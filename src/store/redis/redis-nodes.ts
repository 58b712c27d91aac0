import { delay } from '../../clock.ts'
import { type NodeRecord, type NodeTable, nodeChannel } from '../port.ts'
import type { RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisSubscriber } from './redis-subscriber.ts'
import { BURY, LISTENS, REGISTER, RENEW } from './scripts/node.ts'

/** How long nobody must listen on a node's channel, in ms: a lost connection is made again in 25 to 100 ms. */
const GRACE = 400
/**
 * How long our own connection must have stood before we conclude anything from silence, in ms. When Redis restarts or
 * fails over, everybody loses the connection at once, and comes back within a second (see `backoff`).
 */
const SETTLED = 3_000

/**
 * Nodes are keys that expire with the lease. On a single server a node whose process died is known at once: its
 * socket is closed, so nobody receives on its channel. That is believed only
 *
 * - of a node that said it listens, twice, with the time to reconnect in between;
 * - by a node whose own connection is settled and whose own channel is heard: behind a proxy that does not count
 *   subscribers, or in the middle of a restart, silence means nothing, and the lease decides;
 *
 * and then its lease is ended (`BURY`), so that a node that was alive after all learns it at its next renewal, and can
 * do no harm till then: whoever claims its sessions raises their generation. In a cluster a server counts its own
 * subscribers only: there the lease decides.
 */
export class RedisNodes implements NodeTable {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #subscriber: RedisSubscriber
  readonly #assertOpen: () => void
  readonly #cluster: boolean
  readonly #burials = new Map<string, Promise<boolean>>()

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    subscriber: RedisSubscriber,
    assertOpen: () => void,
    { cluster }: { cluster: boolean },
  ) {
    this.#connection = connection
    this.#keys = keys
    this.#subscriber = subscriber
    this.#assertOpen = assertOpen
    this.#cluster = cluster
  }

  /** Does Redis know all who listen to a channel? */
  get counted(): boolean {
    return !this.#cluster
  }

  async register({ id, publicKey }: NodeRecord, lease: number): Promise<void> {
    this.#assertOpen()
    const listens = this.#subscriber.hears(this.#channel(id)) ? '1' : '0'
    const repeatable = { repeatable: true }
    await this.#connection.call('sadd', [this.#keys.nodes, id], repeatable)
    const args = [publicKey, listens, Math.ceil(lease)]
    await this.#connection.eval(REGISTER, this.#keys.node(id), args, repeatable)
  }

  async renew(id: string, lease: number): Promise<boolean> {
    this.#assertOpen()
    const args = [Math.ceil(lease)]
    return (await this.#connection.eval(RENEW, this.#keys.node(id), args, { repeatable: true })) === 1
  }

  async unregister(id: string): Promise<void> {
    this.#assertOpen()
    await this.#connection.call('unlink', this.#keys.node(id), { repeatable: true })
    await this.#connection.call('srem', [this.#keys.nodes, id], { repeatable: true })
  }

  async get(id: string): Promise<NodeRecord | undefined> {
    this.#assertOpen()
    const [node] = this.#keys.node(id)
    const [publicKey, listens] = (await this.#connection.call('hmget', [node, 'key', 'listens'], {
      repeatable: true,
    })) as (string | null)[]
    if (publicKey === null || publicKey === undefined) return undefined
    if (listens === '1' && (await this.#isSilent(id)) && (await this.isDead(id))) return undefined
    return { id, publicKey }
  }

  /** Looks again after the grace, and ends the lease of a node that is dead. For nodes on whose channel it is silent. */
  isDead(id: string): Promise<boolean> {
    let burial = this.#burials.get(id)
    if (!burial) {
      burial = this.#bury(id).finally(() => this.#burials.delete(id))
      this.#burials.set(id, burial)
    }
    return burial
  }

  /** Tells the others whether silence on the node's channel means anything. */
  async listens(id: string, listens: boolean): Promise<void> {
    await this.#connection.eval(LISTENS, [this.#keys.node(id)[0]], [listens ? '1' : '0'], {
      repeatable: true,
    })
  }

  async #isSilent(id: string): Promise<boolean> {
    const ours = this.#witness(id)
    if (ours === undefined) return false
    const channels = ['numsub', this.#channel(id), ours]
    const heard = (await this.#connection.call('pubsub', channels, { repeatable: true })) as number[]
    return heard[1] === 0 && heard[3]! > 0
  }

  async #bury(id: string): Promise<boolean> {
    if (this.#witness(id) === undefined) return false
    await delay(GRACE)
    const ours = this.#witness(id)
    if (ours === undefined) return false
    const args = [this.#channel(id), ours]
    return (await this.#connection.eval(BURY, this.#keys.node(id), args, { repeatable: true })) === 1
  }

  /** A channel on which we ourselves are heard; undefined: we are in no position to judge others. */
  #witness(id: string): string | undefined {
    if (this.#cluster || this.#connection.uptime < SETTLED) return undefined
    return this.#subscriber.anyChannel(this.#channel(id))
  }

  #channel(id: string): string {
    return this.#keys.channel(nodeChannel(id))
  }
}
