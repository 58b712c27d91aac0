import { randomBytes } from 'node:crypto'
import { nextGeneration } from '../common/generation.ts'
import { taken, terminated, tooMany } from '../common/refusals.ts'
import type {
  ClaimedSession,
  SessionClaim,
  SessionPage,
  SessionRecord,
  SessionState,
  SessionTable,
  SessionToCreate,
  SessionTouch,
} from '../port.ts'
import { ALWAYS, READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import { decodeOpen } from './redis-entry.ts'
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

  constructor(connection: RedisConnection, keys: RedisKeys, nodes: RedisNodes, index: RedisIndex) {
    this.#connection = connection
    this.#keys = keys
    this.#nodes = nodes
    this.#index = index
  }

  async create(session: SessionToCreate): Promise<number> {
    this.#connection.assertOpen()
    const { id, principal, state, owner, ttl, limit } = session
    const text = `${JSON.stringify(principal)}\n${JSON.stringify(state)}`
    const generation = nextGeneration(0)
    const { log, record, open, gone } = this.#keys.session(id)
    const keys = [log, record, open, gone, ...this.#index.keysOf(id, principal)]
    const args = [randomBytes(4).toString('hex'), owner, Math.ceil(ttl), generation, text, id]
    const run = (bound: number | '') =>
      this.#connection.eval(CREATE, keys, [...args, bound], REPEATABLE) as Promise<number | string>
    const isFull = async () =>
      limit !== undefined && principal !== null && (await this.#index.isFull(principal, limit))
    let result: number | string
    if (this.#index.isApart) {
      // Counted before, never too many; but a taken or a terminated id is told first.
      const full = await isFull()
      result = full ? await this.#whyNot(id, gone) : await run('')
    } else {
      result = await run(limit ?? '')
      if (result === 'full' && !(await isFull())) result = await run('')
    }
    if (result === 'gone') throw terminated(id)
    if (result === 'taken') throw taken(id)
    if (result === 'full') throw tooMany(limit!)
    if (this.#index.isApart) await this.#index.add(id, Number(result), principal)
    return generation
  }

  async #whyNot(id: string, gone: string): Promise<'gone' | 'taken' | 'full'> {
    const [ended, there] = await Promise.all([this.#connection.call('exists', [gone]), this.get(id)])
    return ended === 1 ? 'gone' : there ? 'taken' : 'full'
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    this.#connection.assertOpen()
    return this.#get(id)
  }

  async #get(id: string): Promise<SessionRecord | undefined> {
    const { log, record } = this.#keys.session(id)
    const args = this.#nodes.stateArgs()
    return this.#record(id, (await this.#connection.eval(GET, [log, record], args, READS)) as Found)
  }

  /**
   * The owner's lease and the session may live on different nodes of a cluster, where no script reads both. So: read
   * the session, find its owner dead, then claim the session *from that owner in that generation*. Between the
   * last two the owner cannot have come to life: a lease that is over is never renewed, and ids of nodes are not used
   * again. And if somebody else has claimed or released the session meanwhile, generation or owner differ.
   */
  async claim(id: string, { owner, generation, keep }: SessionClaim): Promise<ClaimedSession | undefined> {
    this.#connection.assertOpen()
    const before = await this.#get(id)
    if (!before || before.generation !== generation) return undefined
    if (before.ownerAlive && before.owner !== owner) return undefined
    const { log, record, open } = this.#keys.session(id)
    const next = keep ? generation : nextGeneration(generation)
    const args = [owner, generation, before.owner ?? '', next, ...this.#nodes.stateArgs()]
    const answer = await this.#connection.eval(CLAIM, [log, record, open], args, REPEATABLE)
    const [generationNow, expiresAt, text, ownerState, last, streams] = answer as [...Found, string, string[]]
    const claimed = await this.#record(id, [generationNow, expiresAt, text, ownerState])
    return claimed && { ...claimed, last: Number(last), open: decodeOpen(streams) }
  }

  async release(id: string, generation: number): Promise<boolean> {
    this.#connection.assertOpen()
    const { log, record } = this.#keys.session(id)
    return (await this.#connection.eval(RELEASE, [log, record], [generation], REPEATABLE)) === 1
  }

  async update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    this.#connection.assertOpen()
    const { log, record } = this.#keys.session(id)
    const whose = principal === undefined ? '' : JSON.stringify(principal)
    const args = [generation, JSON.stringify(state), whose]
    const updated = (await this.#connection.eval(UPDATE, [log, record], args, REPEATABLE)) === 1
    if (updated && principal !== undefined) await this.#index.own(id, principal)
    return updated
  }

  async touch(touches: readonly SessionTouch[]): Promise<readonly string[]> {
    this.#connection.assertOpen()
    const lost: string[] = []
    // Sent in one turn, they travel together; in turns, so that many do not hold up what others send.
    for (let i = 0; i < touches.length; i += 500) {
      await Promise.all(
        touches.slice(i, i + 500).map(async ({ id, ttl, delivered, generation }) => {
          const { log, record, open } = this.#keys.session(id)
          const args = [ttl === undefined ? '' : Math.ceil(ttl), delivered ?? '', generation ?? '']
          const touched = await this.#connection.eval(TOUCH, [log, record, open], args, ALWAYS)
          if (generation !== undefined && touched === 0) lost.push(id)
        }),
      )
    }
    return lost
  }

  async terminate(id: string): Promise<boolean> {
    this.#connection.assertOpen()
    const { log, record, open, gone } = this.#keys.session(id)
    const keys = [log, record, open, gone, ...this.#index.keysOf(id)]
    const terminated = (await this.#connection.eval(TERMINATE, keys, [id])) === 1
    if (terminated && this.#index.isApart) await this.#index.remove(id)
    return terminated
  }

  async list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    this.#connection.assertOpen()
    const { limit = 100, principal } = query
    const sessions: SessionRecord[] = []
    let cursor = query.cursor ?? ''
    for (let looked = 0; looked < LOOKED_AT; ) {
      const ids = await this.#index.after(cursor, limit + 1)
      looked += ids.length
      const records = await Promise.all(ids.map((id) => this.#get(id)))
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

  async #record(id: string, [generation, expiresAt, text, state]: Found): Promise<SessionRecord | undefined> {
    if (text === undefined) return undefined
    const [owner, delivered, createdAt, lastUsedAt, , principal, stateText] = text.split('\n')
    return {
      id,
      principal: JSON.parse(principal!),
      state: JSON.parse(stateText!),
      owner: owner || null,
      ownerAlive: owner ? await this.#nodes.isAlive(owner, state) : false,
      generation: Number(generation),
      delivered: Number(delivered),
      createdAt: Number(createdAt),
      lastUsedAt: Number(lastUsedAt),
      expiresAt,
    }
  }
}

/**
 * What the scripts answer; the text is missing where there is no such session. The generation is text, because the driver
 * rounds numbers close to 2^53.
 */
type Found = [generation: string, expiresAt: number, text: string, ownerState: number]
