import { maskUrl, PersistError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import { MemoryEventStore } from './memory/memory-store.ts'
import { PostgresEventStore } from './postgres/postgres-store.ts'
import { RedisEventStore } from './redis/redis-store.ts'
import { SqliteEventStore } from './sqlite/sqlite-store.ts'
import type { Store } from './store.ts'

/** What a store can be told beside its URL. What the backend does not have, it does not need. */
export interface OpenStoreOptions {
  /** Seconds that `forSession()` keeps events. Default 3600, or the URL's parameter `ttl`. */
  readonly ttl?: number
  /** Milliseconds until an operation fails. Default 5000, or the URL's parameter `timeout`. */
  readonly timeout?: number
  /** Bring the schema up to date on opening. Default: SQLite does, PostgreSQL does not, Redis has none. */
  readonly autoMigrate?: boolean
  /** Change nothing, create nothing. Only SQLite has it; the others change nothing by being opened. Default false. */
  readonly readonly?: boolean
  /** Where lost connections and the like are reported. Default: one line on stderr. */
  readonly logger?: Logger
}

/** A URL of ours, without the parameters that have become `options`. */
interface Target {
  readonly url: string
  readonly options: OpenStoreOptions & { readonly durability?: 'normal' | 'full' }
}

// A backend's file loads its driver when the store is first used: naming all of them here costs nothing.
const BACKENDS: Readonly<Record<string, (target: Target) => Store>> = {
  memory: ({ options }) => new MemoryEventStore(options),
  sqlite: ({ url, options }) => new SqliteEventStore({ ...options, path: sqlitePath(url) }),
  redis: ({ url, options }) => new RedisEventStore({ ...options, url }),
  rediss: ({ url, options }) => new RedisEventStore({ ...options, url }),
  'rediss+cluster': ({ url, options }) => new RedisEventStore({ ...options, url }),
  'rediss+sentinel': ({ url, options }) => new RedisEventStore({ ...options, url }),
  'redis+cluster': ({ url, options }) => new RedisEventStore({ ...options, url }),
  'redis+sentinel': ({ url, options }) => new RedisEventStore({ ...options, url }),
  postgres: ({ url, options }) => new PostgresEventStore({ ...options, url }),
  postgresql: ({ url, options }) => new PostgresEventStore({ ...options, url }),
}

const MISSPELT: Readonly<Record<string, string>> = {
  sqlite3: 'sqlite:',
  file: 'sqlite:',
  postgre: 'postgres:',
  postgress: 'postgres:',
  pg: 'postgres:',
  psql: 'postgres:',
  valkey: 'redis:',
  valkeys: 'rediss:',
  'redis-cluster': 'redis+cluster:',
  'redis-sentinel': 'redis+sentinel:',
}

/**
 * The store that a URL names. Nothing is opened before its first use; `await store.ready()` forces it.
 *
 * `sqlite:mcp.db`, `sqlite:///var/lib/mcp.db`, `sqlite::memory:`, `memory:`, `redis://…`, `rediss://…`,
 * `redis+cluster://host,host`, `redis+sentinel://host,host/name`, `postgres://…`. Parameters of the URL: `ttl`,
 * `timeout`, for SQLite `durability=full`; what else there is belongs to the backend.
 *
 * @throws PersistError `INVALID_ARGUMENT` with a guess at what was meant.
 * @example
 * const store = openStore(process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db?durability=full')
 */
export function openStore(url: string, options: OpenStoreOptions = {}): Store {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()
  const open = scheme === undefined ? undefined : BACKENDS[scheme]
  if (!open) throw refuse(url, guess(url, scheme))
  const target = takeParameters(url, scheme!)
  return open({ url: target.url, options: { ...target.options, ...options } })
}

/** Takes our parameters out of a URL, and leaves every other character of it as it is. */
function takeParameters(url: string, scheme: string): Target {
  const ours = scheme === 'sqlite' ? ['ttl', 'timeout', 'durability'] : ['ttl', 'timeout']
  const [base = '', ...rest] = url.split('?')
  const parameters = rest.join('?').split('&')
  const others: string[] = []
  const options: Record<string, string | number> = {}
  for (const parameter of parameters.filter((text) => text !== '')) {
    const [name = '', value = ''] = parameter.split('=', 2)
    if (!ours.includes(name)) others.push(parameter)
    else if (name === 'durability') options[name] = value
    else options[name] = positive(url, name, value)
  }
  if (others.length > 0 && (scheme === 'sqlite' || scheme === 'memory')) {
    throw refuse(url, `has the unknown parameter ${others[0]!.split('=')[0]}; known are ${ours.join(', ')}`)
  }
  return { url: others.length > 0 ? `${base}?${others.join('&')}` : base, options }
}

function positive(url: string, name: string, value: string): number {
  const number = Number(value)
  if (value !== '' && number > 0 && Number.isFinite(number)) return number
  throw refuse(url, `says ${name}=${value}, and that must be a positive number`)
}

function sqlitePath(url: string): string {
  const rest = url.slice('sqlite:'.length)
  if (rest === '' || rest === '//') throw refuse(url, 'lacks a path; write sqlite:mcp.db')
  if (!rest.startsWith('//')) return rest
  if (rest.startsWith('///')) return rest.slice(2)
  const name = rest.slice(2)
  throw refuse(url, `has no host to name; write sqlite:${name}, or sqlite:///${name} for an absolute path`)
}

function guess(url: string, scheme: string | undefined): string {
  const [, slashed] = /^([a-z+]+)\/\//i.exec(url) ?? []
  const known = `known are ${Object.keys(BACKENDS).join(', ')}`
  if (url.trim() === '') return 'is empty; write for example sqlite:mcp.db'
  if (url === ':memory:') return 'lacks its scheme; write sqlite::memory:'
  if (slashed && slashed.toLowerCase() in BACKENDS) return `lacks the colon after ${slashed}`
  if (scheme === undefined || scheme.length === 1) return `lacks a scheme; for a file write sqlite:${url}`
  if (scheme.startsWith('http')) return 'is the address of a web server; a store is for example sqlite:mcp.db'
  const meant = MISSPELT[scheme]
  return meant
    ? `begins with ${scheme}:, and ${meant} is meant`
    : `has the unknown scheme ${scheme}; ${known}`
}

function refuse(url: string, problem: string): PersistError {
  return new PersistError('INVALID_ARGUMENT', `The store URL '${maskUrl(url)}' ${problem}.`)
}
