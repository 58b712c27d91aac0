import { delay } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import { driverMissing } from '../common/options.ts'
import { NodeRedisClient } from './node-redis-client.ts'
import { isNodeRedis, type RedisClient, type RedisClientLike } from './redis-client.ts'
import type { RedisTarget } from './redis-url.ts'

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

/** @throws PersistError `INVALID_ARGUMENT` for what is no client that the store can make its own connections from. */
export function checkClient(client: RedisClientLike): void {
  const given = Object(client) as object
  if (isNodeRedis(given) || ('duplicate' in given && 'status' in given)) return
  const other = 'isOpen' in given ? ', or for Cluster and Sentinel those of ioredis, or a url' : ''
  const wanted = `a Redis or Cluster of ioredis, or what createClient() of the package redis returns${other}`
  throw new PersistError('INVALID_ARGUMENT', `The client of a RedisEventStore must be ${wanted}.`)
}

/** A client that is not connected yet. A given one is only copied: ours has our options, and is ours to close. */
export async function createClient(
  source: RedisTarget | RedisClientLike,
  timeout: number,
): Promise<RedisClient> {
  const options = connectionOptions(timeout)
  if (isNodeRedis(source)) return new NodeRedisClient(source, { timeout, retry: backoff })
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
