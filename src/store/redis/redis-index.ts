import { READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import { EXPIRES } from './scripts/session.ts'

/**
 * Which sessions there are. An index of ids in order, for pages; and beside it when to look at each again: at its
 * expiry as it stood when we last looked. So appends and touches write no index, and a sweep looks at a living session
 * once per ttl.
 *
 * An entry is written after its session and may outlive it, never the other way round; whoever finds such an entry
 * drops it. (A process that dies between the two leaves a session unlisted whose client was never told its id.)
 */
export class RedisIndex {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  async add(id: string, expiresAt: number): Promise<void> {
    const [index, due] = this.#keys.shardOf(id)
    await Promise.all([
      this.#connection.call('zadd', [index, 0, id], REPEATABLE),
      this.#connection.call('zadd', [due, expiresAt, id], REPEATABLE),
    ])
  }

  /** True if it was there: of several that remove the same entry, one did. */
  async remove(id: string): Promise<boolean> {
    const [index, due] = this.#keys.shardOf(id)
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
    const [seconds] = (await this.#connection.call('time', [], READS)) as [string]
    const now = Number(seconds) * 1000
    let swept = 0
    let looked = 0
    for (const [, due] of this.#keys.shards()) {
      if (looked >= limit) break
      const range = [due, '-inf', now + 1000, 'LIMIT', 0, limit - looked]
      const ids = (await this.#connection.call('zrangebyscore', range, READS)) as string[]
      looked += ids.length
      const gone = await Promise.all(ids.map((id) => this.#isGone(id, due, dryRun)))
      swept += gone.filter(Boolean).length
    }
    return { swept, more: looked >= limit }
  }

  async #isGone(id: string, due: string, dryRun: boolean): Promise<boolean> {
    const { log, record } = this.#keys.session(id)
    const expiresAt = (await this.#connection.eval(EXPIRES, [log, record], [], READS)) as number
    if (expiresAt === 0) return dryRun || this.remove(id)
    // Used since we last looked: it is due again when it expires now.
    if (!dryRun) await this.#connection.call('zadd', [due, 'XX', expiresAt, id], REPEATABLE)
    return false
  }
}
