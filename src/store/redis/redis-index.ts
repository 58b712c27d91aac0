import { READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import { DROP_DEAD, EXPIRES } from './scripts/session.ts'

/** Entries that are looked at together: whoever else asks something of Redis, or of this process, waits for no more. */
const PAGE = 100

/**
 * Which sessions there are. An index of ids in order, for pages; and beside it when to look at each again: at its
 * expiry as it stood when we last looked. So appends and touches write no index, and a sweep looks at a living session
 * once per ttl.
 *
 * On a single server the script that makes or ends a session writes its entries too. In a cluster they lie elsewhere: an
 * entry is written after its session and may outlive it, never the other way round; whoever finds such an entry
 * drops it. (A process that dies between the two leaves a session unlisted whose client was never told its id.)
 */
export class RedisIndex {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #cluster: boolean

  constructor(connection: RedisConnection, keys: RedisKeys, { cluster }: { cluster: boolean }) {
    this.#connection = connection
    this.#keys = keys
    this.#cluster = cluster
  }

  /** Must entries be written in a step of their own? */
  get isApart(): boolean {
    return this.#cluster
  }

  /** The keys of a session's entries: index, due, owners, and its principal's set; none where they are apart. */
  keysOf(id: string, principal: string | null = null): string[] {
    if (this.#cluster) return []
    const held = principal === null ? [] : [this.#keys.principal(principal)]
    return [...this.#keys.shardOf(id), this.#keys.ownersOf(id), ...held]
  }

  async add(id: string, expiresAt: number, principal: string | null): Promise<void> {
    const [index, due] = this.#keys.shardOf(id)
    await Promise.all([
      this.#connection.call('zadd', [index, 0, id], REPEATABLE),
      this.#connection.call('zadd', [due, expiresAt, id], REPEATABLE),
      principal === null ? undefined : this.#own(id, principal, expiresAt),
    ])
  }

  /** The session has found its principal. */
  async own(id: string, principal: string): Promise<void> {
    const expiresAt = await this.#expiry(id)
    if (expiresAt > 0) await this.#own(id, principal, expiresAt)
  }

  /** Has this principal `limit` sessions that live? Only then are those looked at that may have expired. */
  async isFull(principal: string, limit: number): Promise<boolean> {
    const key = this.#keys.principal(principal)
    // Bounded: what was looked at is due later, or gone; by another server's clock perhaps a little too late.
    for (let looked = 0; looked <= limit + PAGE; looked += PAGE) {
      const held = (await this.#connection.call('zcard', [key], READS)) as number
      if (held < limit) return false
      const ids = await this.#due(key, PAGE, 0)
      if (ids.length === 0) return true
      await Promise.all(ids.map((id) => this.#lookAgain(id, key)))
    }
    return ((await this.#connection.call('zcard', [key], READS)) as number) >= limit
  }

  /** True if it was there: of several that remove the same entry, one did. */
  async remove(id: string): Promise<boolean> {
    const [index, due] = this.#keys.shardOf(id)
    const owners = this.#keys.ownersOf(id)
    const key = (await this.#connection.call('hget', [owners, id], READS)) as string | null
    if (key !== null) {
      await this.#connection.call('zrem', [key, id], REPEATABLE)
      await this.#connection.call('hdel', [owners, id], REPEATABLE)
    }
    const [removed] = await Promise.all([
      this.#connection.call('zrem', [due, id], REPEATABLE),
      this.#connection.call('zrem', [index, id], REPEATABLE),
    ])
    return removed === 1
  }

  /** Ids after `cursor` in byte order, expired ones among them. */
  async after(cursor: string, limit: number): Promise<string[]> {
    const from = cursor === '' ? '-' : `(${cursor}`
    const pages = await Promise.all(
      this.#keys
        .shards()
        .map(([index]) => this.#connection.call('zrangebylex', [index, from, '+', 'LIMIT', 0, limit], READS)),
    )
    // The first `limit` of all are among the first `limit` of each.
    return (pages as string[][])
      .flat()
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .slice(0, limit)
  }

  async count(): Promise<number> {
    const counts = await Promise.all(
      this.#keys.shards().map(([index]) => this.#connection.call('zcard', [index], READS)),
    )
    return (counts as number[]).reduce((sum, count) => sum + count, 0)
  }

  /** Drops the entries of up to `limit` sessions that are no more. */
  async sweep(limit: number, dryRun: boolean): Promise<{ swept: number; more: boolean }> {
    let swept = 0
    let looked = 0
    for (const [, due] of this.#keys.shards()) {
      if (looked >= limit) break
      const ids = await this.#due(due, limit - looked, 1000)
      looked += ids.length
      for (let i = 0; i < ids.length; i += PAGE) {
        const some = ids.slice(i, i + PAGE)
        if (!this.#cluster && !dryRun) swept += await this.#dropDead(some)
        else {
          const gone = await Promise.all(some.map((id) => this.#isGone(id, due, dryRun)))
          swept += gone.filter(Boolean).length
        }
      }
    }
    return { swept, more: looked >= limit }
  }

  /** Of one shard. */
  async #dropDead(ids: readonly string[]): Promise<number> {
    const keys = this.keysOf(ids[0]!)
    for (const id of ids) {
      const { log, record } = this.#keys.session(id)
      keys.push(log, record)
    }
    return (await this.#connection.eval(DROP_DEAD, keys, [...ids], REPEATABLE)) as number
  }

  async #isGone(id: string, due: string, dryRun: boolean): Promise<boolean> {
    const expiresAt = await this.#expiry(id)
    if (expiresAt === 0) return dryRun || this.remove(id)
    // Used since we last looked: it is due again when it expires now.
    if (!dryRun) await this.#connection.call('zadd', [due, 'XX', expiresAt, id], REPEATABLE)
    return false
  }

  async #lookAgain(id: string, key: string): Promise<void> {
    const expiresAt = await this.#expiry(id)
    if (expiresAt === 0) {
      await this.remove(id)
      // Also where its way back was lost on the way.
      await this.#connection.call('zrem', [key, id], REPEATABLE)
    } else await this.#connection.call('zadd', [key, 'XX', expiresAt, id], REPEATABLE)
  }

  async #own(id: string, principal: string, expiresAt: number): Promise<void> {
    const key = this.#keys.principal(principal)
    // The way back first: an entry that nobody could drop would count for ever.
    await this.#connection.call('hset', [this.#keys.ownersOf(id), id, key], REPEATABLE)
    await this.#connection.call('zadd', [key, expiresAt, id], REPEATABLE)
  }

  /** Ids of a sorted set whose time has come, or comes within `soon` ms. */
  async #due(key: string, limit: number, soon: number): Promise<string[]> {
    const [seconds, micros] = (await this.#connection.call('time', [], READS)) as [string, string]
    const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
    const range = [key, '-inf', now + soon, 'LIMIT', 0, limit]
    return (await this.#connection.call('zrangebyscore', range, READS)) as string[]
  }

  async #expiry(id: string): Promise<number> {
    const { log, record } = this.#keys.session(id)
    return (await this.#connection.eval(EXPIRES, [log, record], [], READS)) as number
  }
}
