import { delay } from '../../clock.ts'
import { UnderWay } from '../common/under-way.ts'
import { type NodeRecord, type NodeTable, nodeChannel } from '../port.ts'
import { ALWAYS, READS, type RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisSubscriber } from './redis-subscriber.ts'
import { DECLARE_DEAD, GET_NODE, LISTENS, REGISTER } from './scripts/node.ts'

/** How long nobody must listen on a node's channel, in ms: a lost connection is made again in 25 to 100 ms. */
const GRACE = 400

/**
 * How long our own connection must have stood before we conclude anything from silence, in ms. When Redis restarts or
 * fails over, everybody loses the connection at once. Whoever can reach it again does so within a second (see `backoff`)
 * of the first who could, and subscribes at once then.
 */
const SETTLED = 1_500

/** Nodes in a list at the most. */
const LISTED = 1_000

/** As a script answers it, see `nodeState`. */
export const NodeState = { gone: 0, alive: 1, silent: 2, elsewhere: -1 } as const

/**
 * Nodes are keys that expire with the lease. On a single server a node whose process died is known at once: its
 * socket is closed, so nobody receives on its channel. That is believed only
 *
 * - of a node that said it listens, twice, with the time to reconnect in between;
 * - by a node whose own connection is settled and whose own channel is heard: behind a proxy that does not count
 *   subscribers, or in the middle of a restart, silence means nothing, and the lease decides;
 *
 * and then its lease is ended, so that a node that was alive after all learns it at its next renewal, and can do no harm
 * till then: whoever claims its sessions raises their generation. In a cluster a server counts its own subscribers
 * only: there the lease decides.
 */
export class RedisNodes implements NodeTable {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #subscriber: RedisSubscriber
  readonly #cluster: boolean
  readonly #verdicts = new UnderWay<boolean>()

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    subscriber: RedisSubscriber,
    { cluster }: { cluster: boolean },
  ) {
    this.#connection = connection
    this.#keys = keys
    this.#subscriber = subscriber
    this.#cluster = cluster
  }

  /** Does Redis know all who listen to a channel? */
  get counted(): boolean {
    return !this.#cluster
  }

  async register({ id, publicKey, profile }: NodeRecord, lease: number): Promise<void> {
    this.#connection.assertOpen()
    const listens = this.#subscriber.hears(this.#channel(id)) ? '1' : '0'
    await this.#connection.call('sadd', [this.#keys.nodes, id], ALWAYS)
    const args = [publicKey, profile, listens, Math.ceil(lease)]
    await this.#connection.eval(REGISTER, [this.#keys.node(id)], args, ALWAYS)
  }

  async renew(id: string, lease: number): Promise<boolean> {
    this.#connection.assertOpen()
    // 0: the lease was over. Nothing brings a node back.
    return (await this.#connection.call('pexpire', [this.#keys.node(id), Math.ceil(lease)], ALWAYS)) === 1
  }

  async unregister(id: string): Promise<void> {
    this.#connection.assertOpen()
    await this.#connection.call('unlink', [this.#keys.node(id)], ALWAYS)
    await this.#connection.call('srem', [this.#keys.nodes, id], ALWAYS)
  }

  async get(id: string): Promise<NodeRecord | undefined> {
    this.#connection.assertOpen()
    return this.#get(id)
  }

  async #get(id: string): Promise<NodeRecord | undefined> {
    const args = [this.#channel(id), this.#ownChannel(id) ?? '']
    const answer = await this.#connection.eval(GET_NODE, [this.#keys.node(id)], args, READS)
    const [state, publicKey, profile] = answer as [number, string, string]
    if (state === undefined) return undefined
    if (state === NodeState.silent && (await this.isDead(id))) return undefined
    return { id, publicKey, profile }
  }

  async list(): Promise<readonly NodeRecord[]> {
    this.#connection.assertOpen()
    const ids = (await this.#connection.call('srandmember', [this.#keys.nodes, LISTED], READS)) as string[]
    const nodes = await Promise.all(ids.map((id) => this.get(id)))
    return nodes.filter((node) => node !== undefined)
  }

  /** What a script needs to tell how a node fares whose id it finds, see `nodeState`. */
  stateArgs(): [keys: string, channels: string, ours: string] {
    if (this.#cluster) return ['', '', '']
    return [`${this.#keys.prefix}n:`, this.#channel(''), this.#ownChannel() ?? '']
  }

  /** Does the node live, of which a script answered this? */
  async isAlive(id: string, state: number): Promise<boolean> {
    if (state === NodeState.silent) return !(await this.isDead(id))
    if (state === NodeState.elsewhere) return (await this.#get(id)) !== undefined
    return state === NodeState.alive
  }

  /** Looks again after the grace, and ends the lease of a node that is dead. For nodes on whose channel it is silent. */
  isDead(id: string): Promise<boolean> {
    return this.#verdicts.run(id, () => this.#declareDead(id))
  }

  /** Tells the others whether silence on the node's channel means anything. */
  async listens(id: string, listens: boolean): Promise<void> {
    await this.#connection.eval(LISTENS, [this.#keys.node(id)], [listens ? '1' : '0'], ALWAYS)
  }

  async #declareDead(id: string): Promise<boolean> {
    if (this.#ownChannel(id) === undefined) return false
    await delay(GRACE)
    const ours = this.#ownChannel(id)
    if (ours === undefined || this.#connection.closing) return false
    const args = [this.#channel(id), ours]
    return (await this.#connection.eval(DECLARE_DEAD, [this.#keys.node(id)], args, ALWAYS)) === 1
  }

  /** A channel on which we ourselves are heard; undefined: we are in no position to judge others. */
  #ownChannel(but?: string): string | undefined {
    if (this.#cluster || this.#connection.uptime < SETTLED) return undefined
    return this.#subscriber.anyChannel(but === undefined ? undefined : this.#channel(but))
  }

  #channel(id: string): string {
    return this.#keys.channel(nodeChannel(id))
  }
}
