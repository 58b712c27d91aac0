import {
  type ClaimedSession,
  nextGeneration,
  type SessionClaim,
  type SessionPage,
  type SessionRecord,
  type SessionState,
  type SessionTable,
  type SessionTouch,
  taken,
  terminated,
  tooMany,
} from 'mcp-persist/backend'
import { type JsonFile, type Log, live } from './json-file.ts'
import { newLog } from './log.ts'
import type { LocalNetwork } from './network.ts'

type LogWithSession = Log & { readonly session: NonNullable<Log['session']> }

export class FileSessions implements SessionTable {
  readonly #file: JsonFile
  readonly #network: LocalNetwork

  constructor(file: JsonFile, network: LocalNetwork) {
    this.#file = file
    this.#network = network
  }

  create(session: Parameters<SessionTable['create']>[0]): Promise<number> {
    const { id, ttl, limit, ...given } = session
    return this.#file.write(() => {
      if (live(this.#file.tombstones, id)) throw terminated(id)
      if (this.#live(id)) throw taken(id)
      if (limit !== undefined && given.principal !== null && this.#count(given.principal) >= limit) {
        throw tooMany(limit)
      }
      const generation = nextGeneration(0)
      const now = Date.now()
      const record = { ...given, ttl, delivered: 0, createdAt: now, lastUsedAt: now }
      this.#file.logs.set(id, newLog(generation, ttl, record))
      return generation
    })
  }

  get(id: string): Promise<SessionRecord | undefined> {
    return this.#file.read(() => {
      const log = this.#live(id)
      return log && this.#record(id, log)
    })
  }

  claim(id: string, { owner, generation, keep }: SessionClaim): Promise<ClaimedSession | undefined> {
    return this.#change(id, generation, (log) => {
      const { session } = log
      if (session.owner !== null && session.owner !== owner && this.#network.live(session.owner))
        return undefined
      session.owner = owner
      if (!keep) {
        log.generation = nextGeneration(generation)
        // Beyond every position that an earlier state of the file may have given out.
        log.last = Math.max(log.last, Date.now() * 1000)
      }
      return { ...this.#record(id, log), last: log.last, open: [...log.open] }
    })
  }

  async release(id: string, generation: number): Promise<boolean> {
    const released = await this.#change(id, generation, ({ session }) => {
      session.owner = null
      return true
    })
    return released === true
  }

  async update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    const updated = await this.#change(id, generation, ({ session }) => {
      session.state = state
      session.principal = principal ?? session.principal
      return true
    })
    return updated === true
  }

  touch(touches: readonly SessionTouch[]): Promise<readonly string[]> {
    return this.#file.write(() =>
      touches.flatMap(({ id, ttl, generation, delivered = 0 }) => {
        const log = this.#live(id)
        if (log) {
          log.session.delivered = Math.max(log.session.delivered, delivered)
          if (ttl !== undefined) {
            log.session.lastUsedAt = Date.now()
            log.expiresAt = Math.max(log.expiresAt, Date.now() + ttl)
          }
        }
        return generation !== undefined && log?.generation !== generation ? [id] : []
      }),
    )
  }

  terminate(id: string): Promise<boolean> {
    return this.#file.write(() => {
      const log = this.#live(id)
      if (!log) return false
      this.#file.tombstones.set(id, { expiresAt: Date.now() + log.session.ttl })
      return this.#file.logs.delete(id)
    })
  }

  list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    const { cursor = '', limit = 100, principal } = query
    return this.#file.read(() => {
      const all = [...this.#file.logs.keys()].sort().flatMap((id) => {
        const log = id > cursor ? this.#live(id) : undefined
        return log && (principal === undefined || log.session.principal === principal)
          ? [this.#record(id, log)]
          : []
      })
      const sessions = all.slice(0, limit)
      return all.length > limit ? { sessions, next: sessions.at(-1)!.id } : { sessions }
    })
  }

  /** Compare and set: `change` runs if the session lives in this generation. */
  #change<R>(id: string, generation: number, change: (log: LogWithSession) => R): Promise<R | undefined> {
    return this.#file.write(() => {
      const log = this.#live(id)
      return log?.generation === generation ? change(log) : undefined
    })
  }

  #count(principal: string): number {
    return [...this.#file.logs.keys()].filter((id) => this.#live(id)?.session.principal === principal).length
  }

  #live(id: string): LogWithSession | undefined {
    const log = live(this.#file.logs, id)
    return log?.session ? (log as LogWithSession) : undefined
  }

  #record(id: string, { session, generation, expiresAt }: LogWithSession): SessionRecord {
    const { ttl: _, ...record } = session
    const ownerAlive = session.owner !== null && this.#network.live(session.owner) !== undefined
    return { ...record, id, ownerAlive, generation, expiresAt }
  }
}
