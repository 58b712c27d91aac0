import { PersistError } from '../../errors.ts'
import type { RedisClient } from './redis-client.ts'
import { evaluate } from './redis-connection.ts'
import { driverText } from './redis-errors.ts'
import type { RedisKeys } from './redis-keys.ts'
import { script } from './redis-script.ts'

/** KEYS layout · ARGV 1 ours */
const MARK = script(`
if (tonumber(redis.call('GET', KEYS[1])) or 0) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
`)

/**
 * The version of the layout described in redis-keys.ts. 2: a log's head holds larger generations, and counts the open
 * streams, which lie beside it. What layout 1 holds is read as it is, and becomes layout 2 where it is written.
 *
 * It is raised by what the release before cannot go on with, and by nothing else: whatever stands in `layout` is what a
 * release must know.
 */
export const LAYOUT = 2

/** What is no number is no layout of ours. */
export function knowsLayout(layout: number): boolean {
  return layout <= LAYOUT
}

const OLDEST = [6, 2] as const

/** Refuses a server that is too old, or data of a newer release. */
export async function checkServer(client: RedisClient, keys: RedisKeys, where: string): Promise<void> {
  const version = (await info(client, 'server'))?.redis_version
  if (version !== undefined && isOlder(version)) {
    const needs = `is version ${version}, and ${OLDEST.join('.')} or newer is needed`
    throw new PersistError('INVALID_ARGUMENT', `Redis at ${where} ${needs}.`)
  }
  const layout = await layoutOf(client, keys)
  if (layout !== undefined && !knowsLayout(layout)) {
    const facts = `The data at ${where} has layout ${layout}, and this release knows ${LAYOUT} at the most`
    throw new PersistError('SCHEMA_TOO_NEW', `${facts}; upgrade mcp-persist.`)
  }
}

/** Marks the data, so that older releases leave it alone. Whoever only reads marks nothing. */
export async function markLayout(client: RedisClient, keys: RedisKeys): Promise<void> {
  await evaluate(client, 'call', MARK, [keys.layout], [LAYOUT])
}

/** Undefined: nothing was ever stored under this prefix. */
export async function layoutOf(client: RedisClient, keys: RedisKeys): Promise<number | undefined> {
  const text = (await client.call('get', keys.layout)) as string | null
  return text === null ? undefined : Number(text)
}

export interface ServerFacts {
  readonly version: string
  readonly warnings: readonly string[]
}

/** What the servers say of themselves: the one of a single set-up, or all masters of a cluster. */
export async function describeServers(servers: readonly RedisClient[]): Promise<ServerFacts> {
  const facts = await Promise.all(servers.map(describe))
  const warnings = [...new Set(facts.flatMap((each) => each.warnings))]
  return { version: facts[0]?.version ?? 'unknown', warnings }
}

async function describe(server: RedisClient): Promise<ServerFacts> {
  const all = await info(server)
  // A user may do without the right to INFO. Then there is nothing to say.
  if (!all) return { version: 'unknown', warnings: [] }
  // Managed services often forbid CONFIG: then what depends on it is not said.
  const save = await config(server, 'save')
  const fsync = await config(server, 'appendfsync')
  const warnings: string[] = []
  if (all.aof_enabled === '1') {
    if (fsync === 'everysec') {
      warnings.push('appendfsync is everysec: when its machine goes down, Redis loses up to a second.')
    } else if (fsync === 'no') {
      warnings.push(
        'appendfsync is no: when its machine goes down, Redis loses what the system had not written.',
      )
    }
  } else if (save === '') {
    warnings.push(
      'Persistence is off: when Redis restarts, all sessions and events are lost. Set appendonly yes.',
    )
  } else {
    warnings.push(
      'There is no append-only file: when Redis restarts, it loses all since the last snapshot. Set appendonly yes.',
    )
  }
  const policy = all.maxmemory_policy
  if (Number(all.maxmemory) > 0 && policy !== 'noeviction') {
    warnings.push(
      `maxmemory-policy is ${policy}: when memory runs out, Redis drops live sessions. Set it to noeviction.`,
    )
  }
  if (all.role === 'slave') warnings.push('This is a replica: it cannot be written to.')
  if (Number(all.connected_slaves ?? 0) > 0) {
    warnings.push('Replication is asynchronous: a failover may lose the last moments before it.')
    const lag = Math.max(...[...JSON.stringify(all).matchAll(/lag=(\d+)/g)].map((match) => Number(match[1])))
    if (lag > 5) warnings.push(`A replica lags ${lag} s behind: a failover would lose as much.`)
  }
  if (all.cluster_enabled === '1') {
    warnings.push('In a cluster a node that died is noticed only when its lease is over.')
  }
  return { version: all.valkey_version ?? all.redis_version ?? 'unknown', warnings }
}

/** Undefined: the user has no right to ask. */
async function info(server: RedisClient, ...section: string[]): Promise<Record<string, string> | undefined> {
  const text = (await server.call('info', ...section).catch((error) => {
    if (!driverText(error).includes('NOPERM')) throw error
  })) as string | undefined
  if (text === undefined) return undefined
  return Object.fromEntries(
    text
      .split('\r\n')
      .map((line) => /^(\w+):(.*)$/.exec(line))
      .filter((match) => match !== null)
      .map(([, name, value]) => [name!, value!]),
  )
}

async function config(server: RedisClient, name: string): Promise<string | undefined> {
  try {
    return ((await server.call('config', 'get', name)) as string[])[1]
  } catch {
    return undefined
  }
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])
}
