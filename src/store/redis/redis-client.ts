/** What we use of a connection: an ioredis `Redis` or `Cluster` (5 or 6) is one as it stands. */
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

/** A client as a user hands it over. */
export type RedisClientLike = IoredisLike | NodeRedisLike

/** An ioredis `Redis` or `Cluster`. */
export interface IoredisLike {
  readonly status: string
  duplicate(...args: never[]): unknown
}

/** What `createClient` of the package `redis` (5 or 6) returns. Its clusters, pools and sentinels are not of this shape. */
export interface NodeRedisLike {
  readonly isOpen: boolean
  readonly isPubSubActive: boolean
  sendCommand(...args: never[]): Promise<unknown>
  duplicate(...args: never[]): unknown
}

export function isNodeRedis(client: object): client is NodeRedisLike {
  return 'isOpen' in client && 'isPubSubActive' in client && 'sendCommand' in client
}
