import { maskUrl, PersistError } from '../../errors.ts'

interface Address {
  readonly host: string
  readonly port: number
}

/** Where Redis is, in the words of ioredis' options. */
export interface RedisTarget {
  readonly kind: 'single' | 'cluster' | 'sentinel'
  readonly addresses: readonly Address[]
  /** The name of the master, for `sentinel`. */
  readonly master?: string
  /** Credentials, database, TLS: for each connection. */
  readonly connection: Readonly<Record<string, unknown>>
  readonly keyPrefix?: string
}

const FORM = /^(rediss?)(?:\+(cluster|sentinel))?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/
const PARAMETERS = ['keyPrefix', 'sentinelUsername', 'sentinelPassword'] as const

/**
 * Reads `redis://user:password@host:6379/0`, `rediss://…` (TLS), `redis+cluster://host:7000,host:7001` and
 * `redis+sentinel://host:26379,host:26379/mymaster/0`. Parameters: `keyPrefix`, `sentinelUsername`, `sentinelPassword`.
 */
export function parseRedisUrl(url: string): RedisTarget {
  const match = FORM.exec(url)
  if (!match) {
    const forms =
      'redis://host:6379/0, rediss://…, redis+cluster://host,host or redis+sentinel://host,host/name'
    throw invalid(url, `is not of the form ${forms}`)
  }
  const [, scheme, mode, credentials, hosts, path = '', query = ''] = match
  const kind = (mode ?? 'single') as RedisTarget['kind']
  const parameters = new URLSearchParams(query)
  for (const name of parameters.keys()) {
    if (!(PARAMETERS as readonly string[]).includes(name)) {
      throw invalid(url, `has the unknown parameter ${name}; known are ${PARAMETERS.join(', ')}`)
    }
  }
  const addresses = (hosts || 'localhost').split(',').map((text) => address(url, text, kind))
  if (kind === 'single' && addresses.length > 1) {
    throw invalid(url, 'names several hosts; write redis+cluster:// or redis+sentinel://')
  }
  const segments = path.split('/').filter((segment) => segment !== '')
  const master = kind === 'sentinel' ? segments.shift() : undefined
  if (kind === 'sentinel' && !master) throw invalid(url, 'lacks the name of the master: …host,host/mymaster')
  const [db, ...rest] = segments
  if (rest.length > 0 || (db !== undefined && (!/^\d+$/.test(db) || kind === 'cluster'))) {
    throw invalid(
      url,
      `has the path /${path}, and only a database number may stand there (none in a cluster)`,
    )
  }
  const [username, password] = login(url, credentials)
  const sentinelUsername = parameters.get('sentinelUsername')
  const sentinelPassword = parameters.get('sentinelPassword')
  const keyPrefix = parameters.get('keyPrefix')
  return {
    kind,
    addresses,
    ...(master && { master: decodeURIComponent(master) }),
    ...(keyPrefix !== null && { keyPrefix }),
    connection: {
      ...(username && { username }),
      ...(password && { password }),
      ...(db && { db: Number(db) }),
      // To Redis, to a master that Sentinel named, and to the sentinels themselves: ioredis has an option for each.
      ...(scheme === 'rediss' && { tls: {}, enableTLSForSentinelMode: true, sentinelTLS: {} }),
      ...(sentinelUsername && { sentinelUsername }),
      ...(sentinelPassword && { sentinelPassword }),
    },
  }
}

function address(url: string, text: string, kind: RedisTarget['kind']): Address {
  const match = /^(\[[^\]]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(text.trim())
  const port = Number(match?.[2] ?? (kind === 'sentinel' ? 26_379 : 6_379))
  if (!match || port === 0 || port > 65_535) throw invalid(url, `has the host '${text}'; write host:port`)
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port }
}

/** `redis://secret@host` is a common slip for `redis://:secret@host`; as everywhere else it is a user name. */
function login(url: string, credentials: string | undefined): [string?, string?] {
  if (!credentials) return []
  const [username = '', ...password] = credentials.split(':')
  try {
    return [decodeURIComponent(username), decodeURIComponent(password.join(':'))]
  } catch {
    throw invalid(url, 'has a user name or password that is not percent-encoded')
  }
}

function invalid(url: string, problem: string): PersistError {
  return new PersistError('INVALID_ARGUMENT', `The Redis URL ${maskUrl(url)} ${problem}.`)
}
