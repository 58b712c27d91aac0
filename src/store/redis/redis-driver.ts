import { delay } from '../../clock.ts'
import { driverMissing } from '../common/options.ts'
import type { RedisTarget } from './redis-url.ts'

/** What we use of an ioredis `Redis` or `Cluster`, version 5 or 6. */
export interface RedisClient {
  readonly status: string
  readonly isCluster?: boolean
  connect(): Promise<unknown>
  disconnect(reconnect?: boolean): void
  /** Lower-case names: ioredis 5 finds the keys of a command (and so its node) only for these. */
  call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown>
  callBuffer(command: string, ...args: (string | number | Buffer)[]): Promise<unknown>
  duplicate(...args: unknown[]): RedisClient
  nodes?(role: 'master'): RedisClient[]
  on(event: string, listener: (...args: never[]) => void): unknown
}

/** An ioredis `Redis` or `Cluster`, as a user hands it over. */
export interface RedisClientLike {
  readonly status: string
  duplicate(...args: never[]): unknown
}

interface Driver {
  readonly Redis: new (options: object) => RedisClient
  readonly Cluster: new (nodes: object[], options: object) => RedisClient
}

/**
 * For every connection, whoever configured it. ioredis must neither repeat nor keep back a command by itself: a
 * command that was cut off may have been carried out, and only its sender knows whether it may be sent again.
 */
function connectionOptions(timeout: number) {
  return {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    connectTimeout: timeout,
    commandTimeout: undefined,
    disconnectTimeout: 500,
    // A cluster's connections to its nodes are out of our sight: there ioredis notices the one that fell silent.
    socketTimeout: timeout,
    keepAlive: 10_000,
    enableAutoPipelining: false,
    keyPrefix: '',
    readOnly: false,
    stringNumbers: false,
    protocol: 2,
    replyMapping: 'legacy',
    retryStrategy: backoff,
    // After a failover our old master may have become a replica: find the new one.
    reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? 1 : false),
  }
}

function clusterOptions(timeout: number) {
  // Connections to nodes come and go with the cluster's own view of itself, and are made at their first command.
  const redisOptions = { ...connectionOptions(timeout), retryStrategy: null, enableOfflineQueue: true }
  return {
    lazyConnect: true,
    // True, or commands for a node whose connection is just being made would be refused.
    enableOfflineQueue: true,
    enableAutoPipelining: false,
    scaleReads: 'master',
    keyPrefix: '',
    // An election takes seconds, with a redirection every 100 ms.
    maxRedirections: 64,
    // Zero: a command whose connection broke is not sent again behind our back.
    retryDelayOnFailover: 0,
    slotsRefreshTimeout: timeout,
    clusterRetryStrategy: backoff,
    redisOptions,
  }
}

/**
 * Milliseconds before the next attempt: half to all of 50, 100, 200, 400, 800, 1000, 1000, … A thousand nodes that lost
 * the same server do not come back in the same instant.
 */
export function backoff(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt - 1, 10), 1000) * (0.5 + Math.random() / 2)
}

/** A client that is not connected yet. A given one is only copied: ours has our options, and is ours to close. */
export async function createClient(
  source: RedisTarget | RedisClientLike,
  timeout: number,
): Promise<RedisClient> {
  const options = connectionOptions(timeout)
  if ('duplicate' in source) {
    const client = source as unknown as RedisClient
    if (!client.isCluster) return client.duplicate(options)
    return client.duplicate([], clusterOptions(timeout))
  }
  const { Redis, Cluster } = await loadDriver()
  const { kind, addresses, connection, master } = source
  if (kind === 'single') return new Redis({ ...connection, ...options, ...addresses[0] })
  if (kind === 'sentinel') return new Redis({ ...connection, ...options, sentinels: addresses, name: master })
  const { redisOptions, ...cluster } = clusterOptions(timeout)
  return new Cluster([...addresses], { ...cluster, redisOptions: { ...redisOptions, ...connection } })
}

/** Resolves when its sockets are closed. */
export async function disconnect(client: RedisClient): Promise<void> {
  const connected = ['connecting', 'connect', 'ready'].includes(client.status)
  const ended = new Promise<void>((resolve) => client.on('end', () => resolve()))
  client.disconnect()
  if (connected) await Promise.race([ended, delay(1_000)])
}

async function loadDriver(): Promise<Driver> {
  try {
    return (await import('ioredis')) as unknown as Driver
  } catch (cause) {
    throw driverMissing('ioredis', cause)
  }
}
