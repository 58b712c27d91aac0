import { PersistError } from '../../errors.ts'
import type { LogPage, Transfer } from '../store.ts'
import type { RedisConnection } from './redis-connection.ts'
import type { RedisClient } from './redis-driver.ts'
import { decode, encode, expiryOf } from './redis-entry.ts'
import type { RedisIndex } from './redis-index.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisLog } from './redis-log.ts'
import { PUT, TAKE } from './scripts/transfer.ts'

const REPEATABLE = { repeatable: true }

export class RedisTransfer implements Transfer {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #log: RedisLog
  readonly #index: RedisIndex
  readonly #assertOpen: () => void

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    log: RedisLog,
    index: RedisIndex,
    assertOpen: () => void,
  ) {
    this.#connection = connection
    this.#keys = keys
    this.#log = log
    this.#index = index
    this.#assertOpen = assertOpen
  }

  /** A walk over the keys of every server: logs without a record stand in no index. */
  async *ids(): AsyncGenerator<string> {
    this.#assertOpen()
    const client = await this.#connection.online()
    for (const server of client.nodes?.('master') ?? [client]) yield* this.#idsOn(server)
  }

  async take(query: { sessionId: string; after: number; limit: number }): Promise<LogPage | undefined> {
    const { sessionId } = query
    const { entries, ...page } = await this.#log.entries(query)
    const { log, record } = this.#keys.session(sessionId)
    const answer = (await this.#connection.eval(TAKE, [log, record], [], REPEATABLE)) as string[]
    const [epoch, generation, expiresAt, text] = answer
    if (epoch === undefined || epoch !== page.epoch) return undefined
    const events = entries.map((entry) => ({ ...decode(entry), expiresAt: expiryOf(entry) }))
    const numbers = { generation: Number(generation), expiresAt: Number(expiresAt) }
    return { ...page, sessionId, epoch, ...numbers, events, session: parseRecord(text!) }
  }

  async put(page: LogPage): Promise<boolean> {
    this.#assertOpen()
    const { sessionId, epoch, generation, floor, session, expiresAt } = page
    if (!/^[0-9a-zA-Z]{8}$/.test(epoch)) {
      const way = 'epochs have eight characters of 0-9, a-z and A-Z'
      throw new PersistError(
        'INVALID_ARGUMENT',
        `The log of session ${sessionId} has the epoch ${epoch}; ${way}.`,
      )
    }
    const last = page.more ? (page.events.at(-1)?.position ?? 0) : page.last
    const { log, record, gone } = this.#keys.session(sessionId)
    const args = [
      epoch,
      generation,
      floor,
      last,
      Math.ceil(expiresAt),
      session?.delivered ?? '',
      formatRecord(session),
    ]
    for (const event of page.events) {
      const ttl = Math.max(0, event.expiresAt - Math.floor(event.position / 1000))
      args.push(event.position, encode(event, ttl))
    }
    const done = (await this.#connection.eval(PUT, [log, record, gone], args, REPEATABLE)) === 1
    if (done && session) await this.#index.add(sessionId, Math.ceil(expiresAt), session.principal)
    return done
  }

  async *#idsOn(server: RedisClient): AsyncGenerator<string> {
    const start = `${this.#keys.prefix}s:{`
    const pattern = `${start.replace(/[*?[\]\\^]/g, '\\$&')}*}`
    let cursor = '0'
    do {
      const scan = () =>
        server.call('scan', cursor, 'MATCH', pattern, 'COUNT', 1_000) as Promise<[string, string[]]>
      const [next, logs] = await this.#connection.run(scan, REPEATABLE)
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
