import type { Command } from 'commander'
import { Option } from 'commander'
import { PersistError } from '../../errors.ts'
import type { PersistOptions } from '../../options.ts'

/** A function cannot be said on a command line: who asks is then found out as `withPersistence` does by itself. */
type Functions = 'principal' | 'authorise' | 'logger'

interface Flag {
  /** What the value is called in the help; it names the unit. */
  readonly value: string
  readonly help: string
  readonly parse: (text: string, name: string) => unknown
}

/** Every option of `withPersistence` but those that are functions: as a flag, and as `MCP_PERSIST_*`. */
export const PERSIST_FLAGS = {
  ttl: seconds('how long events can be replayed, and a session lives after its last use (default: 3600)'),
  sessions: text('shared|sticky', 'sticky: the load balancer pins sessions to processes (default: shared)'),
  path: text('path', 'path of the MCP endpoint, here and at the server (default: /mcp)'),
  idle: seconds('how long a session may be unused before its live instance is released (default: the ttl)'),
  takeover: text(
    'same-credential|any',
    'who may bring a session back whose process is gone (default: same-credential)',
  ),
  maxSessions: count('live sessions of this process at the most, 0: any (default: 10000; with --stdio 100)'),
  maxSessionsPerPrincipal: count('sessions of one principal at the most, 0: any (default: 1000)'),
  maxCalls: count('requests of one session that run at the same time, 0: any (default: 1000)'),
  maxSubscriptions: count('resources that one session may subscribe to, 0: any (default: 1000)'),
  retryInterval: milliseconds('how long clients are told to wait before they resume (default: not told)'),
  keepAlive: milliseconds('how often a comment keeps an idle stream open, 0: never (default: 15000)'),
  priming: { value: 'true|false', help: 'send priming events (default: true)', parse: truth },
  maxBodyBytes: {
    value: 'bytes',
    help: 'size of a request body at the most (default: 4194304)',
    parse: number,
  },
  onStoreError: text(
    'deliver|fail',
    'what becomes of an event that cannot be stored (default: deliver, without an id)',
  ),
  eventLimit: count('events kept per session, at about the most (default: 10000)'),
  lease: seconds("how long a node's right to its sessions lasts without renewal (default: 10)"),
} satisfies Record<keyof Omit<PersistOptions, Functions>, Flag>

/** What `serve` has of its own. */
export const SERVE_FLAGS = {
  port: { value: 'port', help: 'to listen on, 0: any that is free (default: PORT, else 3000)', parse: port },
  host: text('address', 'to listen on; 0.0.0.0: every interface (default: 127.0.0.1)'),
  allowedHosts: text('names', 'further names that a server on loopback answers to, with commas; *: any'),
  upstream: text('url', 'a server that runs already, instead of a command'),
  startTimeout: seconds('how long the command may take until it answers (default: 60)'),
  deadline: milliseconds(
    'how long running calls may take to finish when we are told to end (default: 10000)',
  ),
  grace: milliseconds('how long the command may take to end before it is killed (default: 5000)'),
} satisfies Record<string, Flag>

type Said = { [Name in Exclude<keyof typeof PERSIST_FLAGS, 'path'>]?: PersistOptions[Name] }

export interface ServeFlags extends Said {
  path?: string
  port?: number
  host?: string
  allowedHosts?: string
  upstream?: string
  startTimeout?: number
  deadline?: number
  grace?: number
}

export function addFlags(command: Command): Command {
  for (const [name, flag] of Object.entries<Flag>({ ...SERVE_FLAGS, ...PERSIST_FLAGS })) {
    const option = new Option(`${flagOf(name)} <${flag.value}>`, flag.help).env(variableOf(name))
    command.addOption(option.argParser((given) => (given === '' ? '' : flag.parse(given, name))))
  }
  return command
}

/** What was said; an empty variable says nothing. */
export function said<T extends object>(flags: T): T {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== '')) as T
}

/** Those of `withPersistence`. */
export function persistOptions(flags: ServeFlags): PersistOptions {
  return Object.fromEntries(Object.entries(flags).filter(([name]) => name in PERSIST_FLAGS))
}

/** `maxSessions` is `--max-sessions`. */
export function flagOf(name: string): string {
  return `--${words(name).join('-')}`
}

/** `maxSessions` is `MCP_PERSIST_MAX_SESSIONS`. */
export function variableOf(name: string): string {
  return `MCP_PERSIST_${words(name).join('_').toUpperCase()}`
}

function words(name: string): string[] {
  return name.split(/(?=[A-Z])/).map((word) => word.toLowerCase())
}

function seconds(help: string): Flag {
  return { value: 'seconds', help, parse: number }
}

function milliseconds(help: string): Flag {
  return { value: 'ms', help, parse: number }
}

function count(help: string): Flag {
  return { value: 'n', help, parse: number }
}

function text(value: string, help: string): Flag {
  return { value, help, parse: (given) => given }
}

function number(given: string, name: string): number {
  const value = Number(given)
  if (given.trim() !== '' && Number.isFinite(value) && value >= 0) return value
  throw wrong(name, given, 'a number, 0 or more')
}

export function port(given: string, name = 'port'): number {
  const value = Number(given)
  if (/^\d+$/.test(given) && value < 65_536) return value
  throw wrong(name, given, 'a port from 0 to 65535')
}

function truth(given: string, name: string): boolean {
  if (given === 'true' || given === 'false') return given === 'true'
  throw wrong(name, given, 'true or false')
}

function wrong(name: string, given: string, wanted: string): PersistError {
  const where = `${flagOf(name)} (or ${variableOf(name)})`
  return new PersistError('INVALID_ARGUMENT', `${where} must be ${wanted}; got ${JSON.stringify(given)}.`)
}
