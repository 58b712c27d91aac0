import { maskUrl, PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { PostgresPool } from './postgres-driver.ts'

/** Where PostgreSQL is: a URL, or a pool that knows it. One of the two. */
export type PostgresEventStoreOptions = PostgresSettings & (PostgresByUrl | PostgresByPool)

interface PostgresByUrl {
  /** `postgres://user:password@host:5432/database?schema=…`; everything else in it goes to the driver, `sslmode` too. */
  readonly url: string
  readonly pool?: undefined
}

interface PostgresByPool {
  /** A pool of pg 8. It is never ended by the store. */
  readonly pool: PostgresPool
  readonly url?: undefined
}

interface PostgresSettings {
  /** The schema that holds the tables. Default: the URL's `schema`, else `mcp_persist`. */
  readonly schema?: string
  /**
   * A direct URL for the one connection that listens for wake-ups, where `url` leads to PgBouncer or another pooler in
   * transaction mode. It must lead to the same database. Default: `url`, or what the pool connects with.
   */
  readonly listenUrl?: string
  /** Seconds that `forSession()` keeps events. Default 3600. */
  readonly ttl?: number
  /** Migrate when the store is first used. Default false: run `npx mcp-persist migrate` before a release. */
  readonly autoMigrate?: boolean
  /** Milliseconds that an operation may take, waiting for a connection included. Default 5,000. */
  readonly timeout?: number
  /**
   * Connections of the store's own pool, one more listens. Two of them are kept for renewals, appends and messages, which
   * so never wait behind reads. Default 10.
   */
  readonly maxConnections?: number
  /** Operations that may wait for a connection before more are refused with `OVERLOADED`. Default 10,000. */
  readonly maxWaiting?: number
  /**
   * Prepare the hot statements by name, once per connection. Default `'auto'`: where the connection is direct; a
   * pooler in transaction mode may lose them.
   */
  readonly prepare?: boolean | 'auto'
  /** Where lost connections are reported. Default: one line on stderr. */
  readonly logger?: Logger
}

export interface PostgresTarget {
  /** For the driver: without what is ours. Undefined with a pool. */
  readonly url: string | undefined
  readonly schema: string
  /** For people. */
  readonly masked: string
}

export function resolveTarget({ url, pool, schema, listenUrl }: PostgresEventStoreOptions): PostgresTarget {
  if ((url === undefined) === (pool === undefined)) {
    throw new PersistError(
      'INVALID_ARGUMENT',
      'A PostgreSQL store needs either a url or a pool, one of the two.',
    )
  }
  if (listenUrl !== undefined) parse(listenUrl, 'listenUrl')
  const parsed = url === undefined ? undefined : parse(url, 'url')
  const name = schema ?? parsed?.searchParams.get('schema') ?? 'mcp_persist'
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > 63) {
    throw new PersistError('INVALID_ARGUMENT', `The schema name '${name}' must have 1 to 63 bytes.`)
  }
  parsed?.searchParams.delete('schema')
  const masked = url === undefined ? 'the given pool' : maskUrl(url)
  return { url: parsed?.toString(), schema: name, masked }
}

function parse(url: string, option: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed?.protocol === 'postgres:' || parsed?.protocol === 'postgresql:') return parsed
  throw new PersistError(
    'INVALID_ARGUMENT',
    `The ${option} ${maskUrl(url)} is not a PostgreSQL URL; write it like postgres://user:password@host:5432/database`,
  )
}
