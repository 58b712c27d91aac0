import { PersistError } from '../../errors.ts'
import type { LogPage, Tombstone, Transfer } from '../port.ts'
import type { RedisClient } from './redis-client.ts'
import { READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import { decode, decodeOpen, encode, encodeOpen, expiryOf } from './redis-entry.ts'
import type { RedisIndex } from './redis-index.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisLog } from './redis-log.ts'
import { PUT, PUT_TOMBSTONE, TAKE, TAKE_TOMBSTONE } from './scripts/transfer.ts'

export class RedisTransfer implements Transfer {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #log: RedisLog
  readonly #index: RedisIndex

  constructor(connection: RedisConnection, keys: RedisKeys, log: RedisLog, index: RedisIndex) {
    this.#connection = connection
    this.#keys = keys
    this.#log = log
    this.#index = index
  }

  /** A walk over the keys of every server: logs without a record stand in no index. */
  async *ids(): AsyncGenerator<string> {
    this.#connection.assertOpen()
    const client = await this.#connection.online()
    for (const server of client.nodes?.('master') ?? [client]) yield* this.#idsOn(server)
  }

  async take(query: { sessionId: string; after: number; limit: number }) {
    this.#connection.assertOpen()
    const { sessionId } = query
    const { log, record, open, gone } = this.#keys.session(sessionId)
    const terminatedUntil = (await this.#connection.eval(TAKE_TOMBSTONE, [gone], [], READS)) as number
    if (terminatedUntil > 0) return { sessionId, terminatedUntil }
    const { entries, ...page } = await this.#log.entries(query)
    const answer = await this.#connection.eval(TAKE, [log, record, open], [], READS)
    const [epoch, generation, expiresAt, text, streams] = answer as [string, string, string, string, string[]]
    if (epoch === undefined || epoch !== page.epoch) return undefined
    const events = entries.map((entry) => ({ ...decode(entry), expiresAt: expiryOf(entry) }))
    const numbers = { generation: Number(generation), expiresAt: Number(expiresAt) }
    const found = { events, open: decodeOpen(streams), session: parseRecord(text) }
    return { ...page, sessionId, epoch, ...numbers, ...found }
  }

  async put(page: LogPage | Tombstone): Promise<boolean> {
    this.#connection.assertOpen()
    if ('terminatedUntil' in page) return this.#putTombstone(page)
    const { sessionId, epoch, generation, floor, session, expiresAt } = page
    if (!/^[0-9a-zA-Z]{8}$/.test(epoch)) {
      const way = 'epochs have eight characters of 0-9, a-z and A-Z'
      throw new PersistError(
        'INVALID_ARGUMENT',
        `The log of session ${sessionId} has the epoch ${epoch}; ${way}.`,
      )
    }
    const last = page.more ? (page.events.at(-1)?.position ?? 0) : page.last
    const { log, record, open, gone } = this.#keys.session(sessionId)
    const head = [epoch, generation, floor, last, Math.ceil(expiresAt), session?.delivered ?? '']
    const args = [...head, formatRecord(session), page.open.length, ...encodeOpen(page.open)]
    for (const event of page.events) {
      const ttl = Math.max(0, event.expiresAt - Math.floor(event.position / 1000))
      args.push(event.position, encode(event, ttl))
    }
    const done = (await this.#connection.eval(PUT, [log, record, open, gone], args, REPEATABLE)) === 1
    if (done && session) await this.#index.add(sessionId, Math.ceil(expiresAt), session.principal)
    return done
  }

  async #putTombstone({ sessionId, terminatedUntil }: Tombstone): Promise<boolean> {
    const { log, record, open, gone } = this.#keys.session(sessionId)
    const args = [Math.ceil(terminatedUntil)]
    await this.#connection.eval(PUT_TOMBSTONE, [log, record, open, gone], args, REPEATABLE)
    await this.#index.remove(sessionId)
    return true
  }

  async *#idsOn(server: RedisClient): AsyncGenerator<string> {
    const start = `${this.#keys.prefix}s:{`
    const pattern = `${start.replace(/[*?[\]\\^]/g, '\\$&')}*}`
    let cursor = '0'
    do {
      this.#connection.assertOpen()
      const scan = () =>
        server.call('scan', cursor, 'MATCH', pattern, 'COUNT', 1_000) as Promise<[string, string[]]>
      const [next, logs] = await this.#connection.run(scan, READS)
      for (const log of logs) {
        const id = log.slice(start.length, -1)
        yield id.includes('%') ? decodeURIComponent(id) : id
      }
      cursor = next
    } while (cursor !== '0')
  }
}

function formatRecord(session: LogPage['session']): string {
  if (!session) return ''
  const { createdAt, lastUsedAt, ttl, principal, state } = session
  const times = [createdAt, lastUsedAt, ttl].map(Math.ceil)
  return [...times, JSON.stringify(principal), JSON.stringify(state)].join('\n')
}

function parseRecord(text: string): LogPage['session'] {
  if (text === '') return null
  const [, delivered, createdAt, lastUsedAt, ttl, principal, state] = text.split('\n')
  return {
    principal: JSON.parse(principal!),
    state: JSON.parse(state!),
    delivered: Number(delivered),
    createdAt: Number(createdAt),
    lastUsedAt: Number(lastUsedAt),
    ttl: Number(ttl),
  }
}
