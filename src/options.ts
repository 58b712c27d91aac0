import { PersistError } from './errors.ts'
import { defaultLogger, type Logger } from './logger.ts'
import { warnOfOtherUnit } from './units.ts'

/** What the SDKs' bearer-token middleware leaves in `req.auth`: the `AuthInfo` of either SDK line is one. */
export interface AuthInfo {
  readonly token: string
  readonly clientId: string
  readonly scopes: string[]
  /** Seconds since the Unix epoch. */
  readonly expiresAt?: number
  readonly resource?: URL
  /** What the token's verifier adds; `sub` and `iss` name the user. */
  readonly extra?: Record<string, unknown>
}

/** What `principal` sees of a request. */
export interface PrincipalRequest {
  readonly method: string
  readonly url: string
  /** Web-standard `Headers`; each can also be read by its lower-case name, as on a Node request. */
  readonly headers: Headers & Readonly<Record<string, string>>
  /**
   * What an authentication middleware in front of the handler found (`req.auth`, or `fetch(..., { authInfo })`). One that is
   * not of the SDK may leave something else there.
   */
  readonly authInfo?: AuthInfo
}

/** How `authorise` says no: the answer that the caller gets. */
export interface Refusal {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface PersistOptions {
  /** Seconds that events can be replayed, and that a session lives after its last use. Default 3600. */
  readonly ttl?: number
  /**
   * `shared` (default): any node serves any session. `sticky`: the load balancer pins sessions to processes; only
   * events are stored.
   */
  readonly sessions?: 'shared' | 'sticky'
  /**
   * Path of the MCP endpoint in an existing app, and of a factory that listens itself; or several. `:name` as a segment is a
   * parameter, as in `/:tenant/mcp`. Each concrete path is an endpoint of its own: a session of one is unknown at
   * another. Default `/mcp`.
   */
  readonly path?: string | readonly string[]
  /** Seconds without a request or stream after which the live instance is released. Default: the ttl. */
  readonly idle?: number
  /**
   * Who is asking? A session is only ever served to the principal that opened it; anybody else gets 404. `null`: nobody in
   * particular; `undefined` is a mistake, and is answered with 500. Default: the SDK's `AuthInfo` in front of the
   * handler, else that of the app's own middleware (Node apps), else issuer and subject of a JWT in `Authorization`.
   */
  readonly principal?: (request: PrincipalRequest) => string | null | Promise<string | null>
  /**
   * Would the app serve this caller? Asked before the handler itself answers a GET, instead of putting a `ping` with
   * the caller's headers to the app. Needed where a proof is good for one request only (DPoP, a signature over the body, a
   * nonce). False is a 403. Default: the ping.
   */
  readonly authorise?: (request: PrincipalRequest) => boolean | Refusal | Promise<boolean | Refusal>
  /**
   * Where callers carry credentials and nothing tells whose they are: who may bring a session back to life whose process is
   * gone? `same-credential` (default): whoever carries the credential that was accepted last. `any`: whoever the app
   * accepts and who knows the session's id.
   */
  readonly takeover?: 'same-credential' | 'any'
  /**
   * Live sessions of this process at the most; 0: any number. A full process releases its idle ones, then answers 503.
   * Default 10,000, which take about half a gigabyte; with `{ stdio }`, where each is a process, 100.
   */
  readonly maxSessions?: number
  /** Sessions of one principal at the most, at all nodes together; one more is answered with 429. Default 1,000; 0: any number. */
  readonly maxSessionsPerPrincipal?: number
  /** Requests of one session that may run at the same time; one more is answered with 429. Default 1,000; 0: any number. */
  readonly maxCalls?: number
  /** Resources that one session may subscribe to, with 256 KiB of URIs; one more is answered with 429. Default 1,000; 0: any number. */
  readonly maxSubscriptions?: number
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
  /** One or more, with parameters or without. */
  readonly paths: readonly string[]
  readonly idle: number
  readonly principal: PersistOptions['principal']
  readonly authorise: PersistOptions['authorise']
  readonly takeover: 'same-credential' | 'any'
  /** These four: `Infinity` where there is no bound. */
  readonly maxSessions: number
  readonly maxSessionsPerPrincipal: number
  readonly maxCalls: number
  readonly maxSubscriptions: number
  readonly retryInterval: number | undefined
  readonly keepAlive: number
  readonly priming: boolean
  readonly maxBodyBytes: number
  readonly onStoreError: 'deliver' | 'fail'
  readonly logger: Logger
  readonly eventLimit: number
  readonly lease: number
}

/** What the kind of app decides, where its user does not. */
interface Defaults {
  readonly path?: string
  readonly maxSessions?: number
}

/** Throws `INVALID_ARGUMENT` with the option's name, its value and what it should be. */
export function resolveOptions(
  given: number | PersistOptions | undefined,
  { path: defaultPath = '/mcp', maxSessions: mostSessions = 10_000 }: Defaults = {},
): Settings {
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
  const paths = [path].flat()
  check(
    'path',
    path,
    paths.length > 0 && paths.every(isPath),
    'a path that starts with /, or a list of them; ' + 'a parameter is a whole segment, as in /:tenant/mcp',
  )
  check('principal', principal, principal === undefined || typeof principal === 'function', 'a function')
  const { authorise, takeover = 'same-credential' } = options
  check('authorise', authorise, authorise === undefined || typeof authorise === 'function', 'a function')
  check(
    'takeover',
    takeover,
    takeover === 'same-credential' || takeover === 'any',
    "'same-credential' or 'any'",
  )
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
  warnOfOtherUnit(logger, {
    seconds: { ttl, idle: options.idle },
    milliseconds: { keepAlive, retryInterval },
  })
  return {
    ttl: ttl * 1000,
    sticky: sessions === 'sticky',
    paths,
    idle: idle * 1000,
    principal,
    authorise,
    takeover,
    maxSessions: bound('maxSessions', options.maxSessions, mostSessions),
    maxSessionsPerPrincipal: bound('maxSessionsPerPrincipal', options.maxSessionsPerPrincipal, 1000),
    maxCalls: bound('maxCalls', options.maxCalls, 1000),
    maxSubscriptions: bound('maxSubscriptions', options.maxSubscriptions, 1000),
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
  'authorise',
  'takeover',
  'maxSessions',
  'maxSessionsPerPrincipal',
  'maxCalls',
  'maxSubscriptions',
  'retryInterval',
  'keepAlive',
  'priming',
  'maxBodyBytes',
  'onStoreError',
  'logger',
  'eventLimit',
  'lease',
])

/** How many of something at the most; 0 says any number. */
function bound(name: string, value: number | undefined, standard: number): number {
  const most = value ?? standard
  check(name, most, Number.isSafeInteger(most) && most >= 0, 'a whole number, 0 or more')
  return most === 0 ? Number.POSITIVE_INFINITY : most
}

function isPath(path: unknown): boolean {
  if (typeof path !== 'string' || !path.startsWith('/')) return false
  return path.split('/').every((segment) => !segment.startsWith(':') || /^:[a-z_]\w*$/i.test(segment))
}

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
