import { randomBytes } from 'node:crypto'
import { taken, terminated, tooMany } from '../shared/refusals.ts'
import type {
  SessionClaim,
  SessionPage,
  SessionRecord,
  SessionState,
  SessionTable,
  SessionToCreate,
  SessionTouch,
} from '../store.ts'
import type { RedisConnection } from './redis-connection.ts'
import type { RedisIndex } from './redis-index.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisNodes } from './redis-nodes.ts'
import { CLAIM, CREATE, GET, RELEASE, TERMINATE, TOUCH, UPDATE } from './scripts/session.ts'

/** Entries of the index that one page looks at, at the most: a page of one principal may have to pass over many. */
const LOOKED_AT = 10_000

export class RedisSessions implements SessionTable {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #nodes: RedisNodes
  readonly #index: RedisIndex
  readonly #assertOpen: () => void

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    nodes: RedisNodes,
    index: RedisIndex,
    assertOpen: () => void,
  ) {
    this.#connection = connection
    this.#keys = keys
    this.#nodes = nodes
    this.#index = index
    this.#assertOpen = assertOpen
  }

  async create(session: SessionToCreate): Promise<void> {
    this.#assertOpen()
    const { id, principal, state, owner, ttl, limit } = session
    const text = `${JSON.stringify(principal)}\n${JSON.stringify(state)}`
    const { log, record, gone } = this.#keys.session(id)
    // The principal's sessions and this one may live on different nodes of a cluster: counted before, never too many.
    const full = limit !== undefined && principal !== null && (await this.#index.isFull(principal, limit))
    // A taken or a terminated id is told first.
    if (full) {
      const [taking, ended] = await Promise.all([this.get(id), this.#connection.call('exists', [gone])])
      throw ended === 1 ? terminated(id) : taking ? taken(id) : tooMany(limit)
    }
    const args = [randomBytes(4).toString('hex'), owner, Math.ceil(ttl), text]
    const result = await this.#connection.eval(CREATE, [log, record, gone], args)
    if (result === 'gone') {
      throw terminated(id)
    }
    if (result === 'taken') {
      throw taken(id)
    }
    await this.#index.add(id, Number(result), principal)
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    this.#assertOpen()
    const { log, record } = this.#keys.session(id)
    return this.#record(id, await this.#connection.eval(GET, [log, record], [], { repeatable: true }))
  }

  /**
   * The owner's lease and the session may live on different nodes of a cluster, where no script reads both. So: read
   * the session, find its owner dead, then claim the session *from that owner in that generation*. Between the
   * last two the owner cannot have come to life: a lease that is over is never renewed, and ids of nodes are not used
   * again. And if somebody else has claimed or released the session meanwhile, generation or owner differ.
   */
  async claim(id: string, { owner, generation, keep }: SessionClaim) {
    const before = await this.get(id)
    if (!before || before.generation !== generation) return undefined
    if (before.ownerAlive && before.owner !== owner) return undefined
    const { log, record } = this.#keys.session(id)
    const args = [owner, generation, before.owner ?? '', keep ? 0 : 1]
    return this.#record(id, await this.#connection.eval(CLAIM, [log, record], args))
  }

  async release(id: string, generation: number): Promise<boolean> {
    this.#assertOpen()
    const { log, record } = this.#keys.session(id)
    return (await this.#connection.eval(RELEASE, [log, record], [generation], { repeatable: true })) === 1
  }

  async update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    this.#assertOpen()
    const { log, record } = this.#keys.session(id)
    const whose = principal === undefined ? '' : JSON.stringify(principal)
    const args = [generation, JSON.stringify(state), whose]
    const updated = (await this.#connection.eval(UPDATE, [log, record], args, { repeatable: true })) === 1
    if (updated && principal !== undefined) await this.#index.own(id, principal)
    return updated
  }

  async touch(touches: readonly SessionTouch[]): Promise<void> {
    this.#assertOpen()
    // Sent in one turn, they travel together; in turns, so that many do not hold up what others send.
    for (let i = 0; i < touches.length; i += 500) {
      await Promise.all(
        touches.slice(i, i + 500).map(({ id, ttl, delivered }) => {
          const args = [Math.ceil(ttl), delivered ?? '']
          const { log, record } = this.#keys.session(id)
          return this.#connection.eval(TOUCH, [log, record], args, { repeatable: true })
        }),
      )
    }
  }

  async terminate(id: string): Promise<boolean> {
    this.#assertOpen()
    const { log, record, gone } = this.#keys.session(id)
    const terminated = (await this.#connection.eval(TERMINATE, [log, record, gone], [])) === 1
    if (terminated) await this.#index.remove(id)
    return terminated
  }

  async list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    this.#assertOpen()
    const { limit = 100, principal } = query
    const sessions: SessionRecord[] = []
    let cursor = query.cursor ?? ''
    for (let looked = 0; looked < LOOKED_AT; ) {
      const ids = await this.#index.after(cursor, limit + 1)
      looked += ids.length
      const records = await Promise.all(ids.map((id) => this.get(id)))
      for (const [i, record] of records.entries()) {
        if (!record) await this.#index.remove(ids[i]!)
        else if (principal === undefined || record.principal === principal) {
          if (sessions.length === limit) return { sessions, next: cursor }
          sessions.push(record)
        }
        cursor = ids[i]!
      }
      if (ids.length <= limit) return { sessions }
    }
    return { sessions, next: cursor }
  }

  async #record(id: string, answer: unknown): Promise<SessionRecord | undefined> {
    const [generation, expiresAt, text] = answer as [number, number, string]
    if (text === undefined) return undefined
    const [owner, delivered, createdAt, lastUsedAt, , principal, state] = text.split('\n')
    return {
      id,
      principal: JSON.parse(principal!),
      state: JSON.parse(state!),
      owner: owner || null,
      ownerAlive: owner ? (await this.#nodes.get(owner)) !== undefined : false,
      generation,
      delivered: Number(delivered),
      createdAt: Number(createdAt),
      lastUsedAt: Number(lastUsedAt),
      expiresAt,
    }
  }
}
