import { monotonicNow, withTimeout } from '../../clock.ts'
import { errorText, maskUrl, PersistError } from '../../errors.ts'
import { defaultLogger, type Logger } from '../../logger.ts'
import { warnOfOtherUnit } from '../../units.ts'
import { allPositive } from '../common/options.ts'
import type { Backend, StoreHealth, StoreStats, SweepResult } from '../port.ts'
import { BackendStore } from '../store.ts'
import { RedisBus } from './redis-bus.ts'
import type { RedisClientLike } from './redis-client.ts'
import { READS, RedisConnection } from './redis-connection.ts'
import { checkClient } from './redis-driver.ts'
import { unavailable } from './redis-errors.ts'
import { checkServer, describeServers, knowsLayout, LAYOUT, layoutOf, markLayout } from './redis-health.ts'
import { RedisIndex } from './redis-index.ts'
import { RedisKeys } from './redis-keys.ts'
import { RedisLog } from './redis-log.ts'
import { RedisNodes } from './redis-nodes.ts'
import { RedisSessions } from './redis-sessions.ts'
import { countEvents } from './redis-stats.ts'
import { RedisSubscriber } from './redis-subscriber.ts'
import { RedisTasks } from './redis-tasks.ts'
import { RedisTransfer } from './redis-transfer.ts'
import { parseRedisUrl } from './redis-url.ts'

/** Where Redis is: a URL, or a client that says it. One of the two. */
export type RedisEventStoreOptions = RedisSettings & (RedisByUrl | RedisByClient)

interface RedisByUrl {
  /**
   * `redis://user:password@host:6379/0`, `rediss://…` with TLS, `redis+cluster://host,host` or
   * `redis+sentinel://host,host/mymaster`.
   */
  readonly url: string
  readonly client?: undefined
}

interface RedisByClient {
  /**
   * An ioredis `Redis` or `Cluster` (5 or 6), or what `createClient()` of the package `redis` (5 or 6) returns: it says where
   * and how to connect. The store makes connections of its own like it, and neither uses nor closes this one.
   */
  readonly client: RedisClientLike
  readonly url?: undefined
}

interface RedisSettings {
  /** What every key and channel begins with. Default `mcp-persist:`, or the URL's parameter `keyPrefix`. */
  readonly keyPrefix?: string
  /** Seconds that `forSession()` keeps events. Default 3600. */
  readonly ttl?: number
  /** Milliseconds until an operation fails, and until operations fail at once while Redis is away. Default 5000. */
  readonly timeout?: number
  /** Appends that may wait for Redis, and other operations likewise, before more are refused. Default 10,000. */
  readonly maxWaiting?: number
  /** Where it is reported that a server event was not carried. Default: one line on stderr. */
  readonly logger?: Logger
}

/** The parts of the Redis store. */
class RedisBackend implements Backend {
  readonly backend = 'redis'
  readonly traits
  readonly log: RedisLog
  readonly nodes: RedisNodes
  readonly sessions: RedisSessions
  readonly bus: RedisBus
  readonly tasks: RedisTasks
  readonly transfer: RedisTransfer
  readonly #connection: RedisConnection
  readonly #subscriber: RedisSubscriber
  readonly #index: RedisIndex
  readonly #keys: RedisKeys
  readonly #where: string
  readonly #timeout: number
  #closing: Promise<void> | undefined

  constructor(options: RedisEventStoreOptions) {
    const { url, client, timeout = 5000, maxWaiting = 10_000, logger = defaultLogger } = options
    allPositive({ timeout, maxWaiting })
    warnOfOtherUnit(logger, { milliseconds: { timeout } })
    if ((url === undefined) === (client === undefined)) {
      throw new PersistError('INVALID_ARGUMENT', 'RedisEventStore takes either a url or a client.')
    }
    if (url === undefined) checkClient(client!)
    const target = url === undefined ? undefined : parseRedisUrl(url)
    const source = target ?? client!
    const cluster = target
      ? target.kind === 'cluster'
      : (client as { isCluster?: boolean }).isCluster === true
    this.#timeout = timeout
    this.#where = url === undefined ? 'the given client' : maskUrl(url)
    this.#keys = new RedisKeys(options.keyPrefix ?? target?.keyPrefix ?? 'mcp-persist:')
    // In a cluster publications are counted by each server for itself: no way to tell that nobody listens.
    this.traits = { durable: true, reach: 'network', detectsDeadNodes: !cluster } as const
    this.#connection = new RedisConnection(
      { source, where: this.#where, timeout, maxWaiting },
      {
        check: (server) => checkServer(server, this.#keys, this.#where),
        mark: (server) => markLayout(server, this.#keys),
      },
    )
    this.#subscriber = new RedisSubscriber(this.#connection, { timeout })
    this.#index = new RedisIndex(this.#connection, this.#keys, { cluster })
    this.log = new RedisLog(this.#connection, this.#keys, { cluster, maxWaiting })
    this.nodes = new RedisNodes(this.#connection, this.#keys, this.#subscriber, { cluster })
    this.sessions = new RedisSessions(this.#connection, this.#keys, this.nodes, this.#index)
    this.bus = new RedisBus(this.#connection, this.#keys, this.nodes, this.#subscriber)
    this.tasks = new RedisTasks(this.#connection, this.#keys)
    this.transfer = new RedisTransfer(this.#connection, this.#keys, this.log, this.#index)
  }

  async ready(): Promise<void> {
    this.#connection.assertOpen()
    await this.#connection.online()
  }

  async ping(): Promise<number> {
    this.#connection.assertOpen()
    await this.#connection.online()
    const started = monotonicNow()
    await this.#connection.call('ping', [], READS)
    return monotonicNow() - started
  }

  /** Changes nothing: not even the mark of the layout is set. */
  async health(): Promise<StoreHealth> {
    const { backend } = this
    if (this.#closing) return { backend, ok: false, warnings: [], error: 'The store is closed.' }
    try {
      const client = await this.#connection.connected()
      const started = monotonicNow()
      const asked = Promise.all([
        client.call('ping').then(() => monotonicNow() - started),
        describeServers(client.nodes?.('master') ?? [client]),
        layoutOf(client, this.#keys),
      ])
      const late = () => unavailable(this.#where, `no answer within ${this.#timeout} ms`)
      const [latencyMs, { version, warnings }, layout] = await withTimeout(asked, this.#timeout, late)
      const migrations = { applied: layout === undefined ? [] : [`layout ${layout}`], pending: [] }
      const facts = { backend, version, latencyMs, migrations, warnings }
      if (layout === undefined || knowsLayout(layout)) return { ...facts, ok: true }
      const error = `The data has layout ${layout}, and this release knows ${LAYOUT}; upgrade mcp-persist.`
      return { ...facts, ok: false, error }
    } catch (error) {
      return { backend, ok: false, warnings: [], error: errorText(error) }
    }
  }

  /**
   * Walks the keys of the whole database, a million at the most: beyond that `events` is estimated. `sessions` counts
   * ended ones until they are swept.
   */
  async stats(): Promise<StoreStats> {
    this.#connection.assertOpen()
    const [sessions, events, nodes] = await Promise.all([
      this.#index.count(),
      countEvents(this.#connection, this.#keys),
      this.#nodeIds().then((all) => all.filter(({ alive }) => alive).length),
    ])
    return { sessions, events, nodes }
  }

  /** Redis expires sessions and events by itself (`events` is 0): what remains are entries of the indexes. */
  async sweep({ limit = 1000, dryRun = false } = {}): Promise<SweepResult> {
    this.#connection.assertOpen()
    const { swept: sessions, more } = await this.#index.sweep(limit, dryRun)
    let nodes = 0
    for (const { id, alive } of await this.#nodeIds()) {
      if (alive) continue
      const removed = dryRun || (await this.#connection.call('srem', [this.#keys.nodes, id])) === 1
      if (removed) nodes += 1
    }
    return { events: 0, sessions, nodes, more }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#connection.stop()
    await this.log.settled()
    await Promise.all([this.#subscriber.close(), this.#connection.close()])
  }

  async #nodeIds(): Promise<{ id: string; alive: boolean }[]> {
    const ids = (await this.#connection.call('smembers', [this.#keys.nodes], READS)) as string[]
    return Promise.all(
      ids.map(async (id) => {
        return { id, alive: (await this.#connection.call('exists', [this.#keys.node(id)], READS)) === 1 }
      }),
    )
  }
}

/**
 * Redis 6.2 or newer or Valkey; a single server, Sentinel or Cluster. Nothing is connected before the first use.
 *
 * @example
 * const store = new RedisEventStore({ url: 'redis://localhost:6379' })
 * const eventStore = store.forSession('session-1')
 *
 * @throws PersistError `INVALID_ARGUMENT` when the URL or an option is wrong
 */
export class RedisEventStore extends BackendStore {
  constructor(options: RedisEventStoreOptions) {
    super(new RedisBackend(options), options)
  }
}
