import { PersistError } from './errors.ts'
import { defaultLogger, type Logger } from './logger.ts'

/** What `principal` sees of a request. */
export interface PrincipalRequest {
  readonly method: string
  readonly url: string
  /** Web-standard `Headers`; each can also be read by its lower-case name, as on a Node request. */
  readonly headers: Headers & Readonly<Record<string, string>>
  /** What an authentication middleware in front of the handler found (`req.auth`, or `fetch(..., { authInfo })`). */
  readonly authInfo?: unknown
}

export interface PersistOptions {
  /** Seconds that events can be replayed, and that a session lives after its last use. Default 3600. */
  readonly ttl?: number
  /**
   * `shared` (default): any node serves any session. `sticky`: the load balancer pins sessions to processes; only
   * events are stored.
   */
  readonly sessions?: 'shared' | 'sticky'
  /** Path of the MCP endpoint in an existing app, and of a factory that listens itself. Default `/mcp`. */
  readonly path?: string
  /** Seconds without a request or stream after which the live instance is released. Default: the ttl. */
  readonly idle?: number
  /**
   * Who is asking? A session is only ever served to the principal that opened it; anybody else gets 404. Default: issuer,
   * client and subject of the SDK's `AuthInfo` where the request has one.
   */
  readonly principal?: (
    request: PrincipalRequest,
  ) => string | null | undefined | Promise<string | null | undefined>
  /** Milliseconds that clients are told to wait before they resume. Default: not told. */
  readonly retryInterval?: number
  /** Milliseconds between comment lines that keep an idle stream open. Default 15,000; 0 turns them off. */
  readonly keepAlive?: number
  /** Send priming events to clients of 2025-11-25 and later. Default true. */
  readonly priming?: boolean
  /** Bytes of a request body at the most. Default 4 MiB. */
  readonly maxBodyBytes?: number
  /** An event that cannot be stored is delivered without an id (`deliver`, default), or fails its call (`fail`). */
  readonly onStoreError?: 'deliver' | 'fail'
  /** Takes warnings and errors; a pino logger fits. Default: one line each on stderr. */
  readonly logger?: Logger
  /** Events kept per session, at about the most. Default 10,000. */
  readonly eventLimit?: number
  /** Seconds that a node's right to its sessions lasts without renewal. Default 10. */
  readonly lease?: number
}

/** The options with their defaults; times in milliseconds. */
export interface Settings {
  readonly ttl: number
  readonly sticky: boolean
  readonly path: string
  readonly idle: number
  readonly principal: PersistOptions['principal']
  readonly retryInterval: number | undefined
  readonly keepAlive: number
  readonly priming: boolean
  readonly maxBodyBytes: number
  readonly onStoreError: 'deliver' | 'fail'
  readonly logger: Logger
  readonly eventLimit: number
  readonly lease: number
}

/** Throws `INVALID_ARGUMENT` with the option's name, its value and what it should be. */
export function resolveOptions(given: number | PersistOptions | undefined, defaultPath = '/mcp'): Settings {
  const options = typeof given === 'number' ? { ttl: given } : (given ?? {})
  if (typeof options !== 'object') throw invalid('ttl', given, 'a number of seconds or an options object')
  for (const key of Object.keys(options)) {
    if (!KNOWN.has(key)) throw invalid(key, undefined, `one of the options: ${[...KNOWN].join(', ')}`)
  }
  const { ttl = 3600, sessions = 'shared', path = defaultPath, logger = defaultLogger, principal } = options
  check(
    'ttl',
    ttl,
    within(ttl, 0.001, MAX_SECONDS),
    `a number of seconds above 0, ${MAX_SECONDS} at the most`,
  )
  check('sessions', sessions, sessions === 'shared' || sessions === 'sticky', "'shared' or 'sticky'")
  check('path', path, typeof path === 'string' && path.startsWith('/'), 'a path that starts with /')
  check('principal', principal, principal === undefined || typeof principal === 'function', 'a function')
  const { idle = ttl, keepAlive = 15_000, retryInterval, priming = true } = options
  check('idle', idle, within(idle, 0, MAX_SECONDS), 'a number of seconds, 0 or more')
  check('keepAlive', keepAlive, within(keepAlive, 0, 2 ** 31 - 1), 'milliseconds, 0 or more')
  check(
    'retryInterval',
    retryInterval,
    retryInterval === undefined || within(retryInterval, 0, 2 ** 31),
    'milliseconds, 0 or more',
  )
  check('priming', priming, typeof priming === 'boolean', 'true or false')
  const {
    maxBodyBytes = 4 * 1024 * 1024,
    onStoreError = 'deliver',
    eventLimit = 10_000,
    lease = 10,
  } = options
  check(
    'maxBodyBytes',
    maxBodyBytes,
    within(maxBodyBytes, 1, Number.MAX_SAFE_INTEGER),
    'a number of bytes above 0',
  )
  check(
    'onStoreError',
    onStoreError,
    onStoreError === 'deliver' || onStoreError === 'fail',
    "'deliver' or 'fail'",
  )
  check(
    'eventLimit',
    eventLimit,
    within(eventLimit, 1, Number.MAX_SAFE_INTEGER),
    'a number of events, 1 or more',
  )
  check('lease', lease, within(lease, 0.1, 3600), 'seconds from 0.1 to 3600')
  check('logger', logger, typeof logger?.warn === 'function', 'a logger with debug, info, warn and error')
  return {
    ttl: ttl * 1000,
    sticky: sessions === 'sticky',
    path,
    idle: idle * 1000,
    principal,
    retryInterval,
    keepAlive,
    priming,
    maxBodyBytes,
    onStoreError,
    logger,
    eventLimit,
    lease: lease * 1000,
  }
}

const MAX_SECONDS = 10 * 365 * 24 * 3600

const KNOWN = new Set([
  'ttl',
  'sessions',
  'path',
  'idle',
  'principal',
  'retryInterval',
  'keepAlive',
  'priming',
  'maxBodyBytes',
  'onStoreError',
  'logger',
  'eventLimit',
  'lease',
])

function within(value: unknown, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most
}

function check(name: string, value: unknown, valid: boolean, wanted: string): void {
  if (!valid) throw invalid(name, value, wanted)
}

function invalid(name: string, value: unknown, wanted: string): PersistError {
  const got =
    value === undefined ? '' : `; got ${typeof value === 'function' ? 'a function' : JSON.stringify(value)}`
  return new PersistError('INVALID_ARGUMENT', `The option "${name}" must be ${wanted}${got}.`)
}
