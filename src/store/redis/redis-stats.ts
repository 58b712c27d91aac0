import type { RedisClient } from './redis-client.ts'
import { READS, type RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'

/** Keys looked at on each server. */
const LOOKED_AT = 1_000_000

/** Events in all logs, with or without a session record; estimated where a server holds very many keys. */
export async function countEvents(connection: RedisConnection, keys: RedisKeys): Promise<number> {
  const client = await connection.online()
  const servers = client.nodes?.('master') ?? [client]
  const counts = await Promise.all(servers.map((server) => countOn(connection, server, keys)))
  return counts.reduce((sum, count) => sum + count, 0)
}

async function countOn(connection: RedisConnection, server: RedisClient, keys: RedisKeys): Promise<number> {
  const ask = <T>(command: string, ...args: (string | number)[]) =>
    connection.run(() => server.call(command, ...args) as Promise<T>, READS)
  const pattern = `${keys.prefix.replace(/[*?[\]\\^]/g, '\\$&')}s:{*}`
  const total = await ask<number>('dbsize')
  let events = 0
  let looked = 0
  let cursor = '0'
  do {
    const [next, logs] = await ask<[string, string[]]>('scan', cursor, 'MATCH', pattern, 'COUNT', 2_000)
    const lengths = await Promise.all(logs.map((log) => ask<number>('llen', log)))
    // The first of a list is its head.
    events += lengths.reduce((sum, length) => sum + Math.max(0, length - 1), 0)
    looked += 2_000
    cursor = next
  } while (cursor !== '0' && looked < LOOKED_AT)
  return cursor === '0' ? events : Math.round((events * total) / looked)
}
