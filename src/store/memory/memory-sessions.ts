import type { Clock } from '../../clock.ts'
import { nextGeneration } from '../common/generation.ts'
import { taken, terminated, tooMany } from '../common/refusals.ts'
import type {
  SessionClaim,
  SessionPage,
  SessionRecord,
  SessionState,
  SessionTable,
  SessionToCreate,
  SessionTouch,
} from '../port.ts'
import type { MemoryLog } from './memory-log.ts'
import type { MemoryNodes } from './memory-nodes.ts'

export interface MemorySessionRow {
  id: string
  principal: string | null
  state: SessionState
  owner: string | null
  generation: number
  delivered: number
  createdAt: number
  lastUsedAt: number
  ttl: number
  terminated: boolean
  tombstoneUntil: number
}

/** The record of a session lives as long as its log: the log's expiry is the session's. */
export class MemorySessions implements SessionTable {
  readonly #rows = new Map<string, MemorySessionRow>()
  /** The ids of each principal's sessions, dead ones among them until they are swept. */
  readonly #ofPrincipal = new Map<string, Set<string>>()
  readonly #clock: Clock
  readonly #log: MemoryLog
  readonly #nodes: MemoryNodes
  readonly #assertOpen: () => void

  constructor(clock: Clock, log: MemoryLog, nodes: MemoryNodes, assertOpen: () => void) {
    this.#clock = clock
    this.#log = log
    this.#nodes = nodes
    this.#assertOpen = assertOpen
  }

  async create(session: SessionToCreate) {
    this.#assertOpen()
    const { ttl, limit, ...given } = session
    const now = this.#clock.now()
    const known = this.#rows.get(given.id)
    if (known?.terminated && known.tombstoneUntil > now) {
      throw terminated(given.id)
    }
    if (this.#live(given.id)) {
      throw taken(given.id)
    }
    if (limit !== undefined && given.principal !== null && this.#count(given.principal) >= limit) {
      throw tooMany(limit)
    }
    const times = { createdAt: now, lastUsedAt: now, ttl, tombstoneUntil: 0 }
    const generation = nextGeneration(0)
    this.put({ ...given, ...times, generation, delivered: 0, terminated: false })
    this.#log.begin(given.id, generation, ttl)
    return generation
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    this.#assertOpen()
    const row = this.#live(id)
    return row && this.#record(row)
  }

  async claim(id: string, { owner, generation, keep }: SessionClaim) {
    this.#assertOpen()
    const row = this.#live(id)
    if (!row || row.generation !== generation) return undefined
    if (row.owner !== null && row.owner !== owner && this.#nodes.live(row.owner)) return undefined
    row.owner = owner
    if (!keep) {
      row.generation = nextGeneration(generation)
      this.#log.fence(id, row.generation)
    }
    return { ...this.#record(row), last: this.#log.last(id), open: this.#log.open(id) }
  }

  async release(id: string, generation: number): Promise<boolean> {
    this.#assertOpen()
    const row = this.#live(id)
    if (row?.generation !== generation) return false
    row.owner = null
    return true
  }

  async update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    this.#assertOpen()
    const row = this.#live(id)
    if (row?.generation !== generation) return false
    this.put({ ...row, state, principal: principal ?? row.principal })
    return true
  }

  async touch(touches: readonly SessionTouch[]): Promise<readonly string[]> {
    this.#assertOpen()
    const lost: string[] = []
    for (const { id, ttl, delivered = 0, generation } of touches) {
      const row = this.#live(id)
      if (generation !== undefined && row?.generation !== generation) lost.push(id)
      if (!row) continue
      row.delivered = Math.max(row.delivered, delivered)
      if (ttl === undefined) continue
      row.lastUsedAt = this.#clock.now()
      this.#log.extend(id, ttl)
    }
    return lost
  }

  async terminate(id: string): Promise<boolean> {
    this.#assertOpen()
    const row = this.#live(id)
    if (!row) return false
    row.terminated = true
    row.tombstoneUntil = this.#clock.now() + row.ttl
    this.#log.drop(id)
    return true
  }

  async list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    this.#assertOpen()
    const { cursor = '', limit = 100, principal } = query
    const ids = [...this.#rows.keys()].filter((id) => id > cursor).sort()
    const rows = ids
      .map((id) => this.#live(id))
      .filter((row) => row !== undefined)
      .filter((row) => principal === undefined || row.principal === principal)
    const sessions = rows.slice(0, limit).map((row) => this.#record(row))
    return rows.length > limit ? { sessions, next: sessions.at(-1)!.id } : { sessions }
  }

  /** The record itself, a tombstone too. */
  row(id: string): MemorySessionRow | undefined {
    const row = this.#rows.get(id)
    return row?.terminated && row.tombstoneUntil > this.#clock.now() ? row : this.#live(id)
  }

  /** A tombstone from elsewhere. */
  bury(id: string, until: number): void {
    const now = this.#clock.now()
    const state = { initialize: '', protocolVersion: '' }
    const empty = { id, principal: null, state, owner: null, generation: 0, delivered: 0, ttl: 0 }
    const row = this.#rows.get(id) ?? { ...empty, createdAt: now, lastUsedAt: now, tombstoneUntil: 0 }
    const tombstoneUntil = Math.max(row.tombstoneUntil, until)
    this.#rows.set(id, { ...row, terminated: true, tombstoneUntil })
    this.#log.drop(id)
  }

  put(row: MemorySessionRow): void {
    this.#drop(row.id)
    this.#rows.set(row.id, row)
    if (row.principal === null) return
    const ids = this.#ofPrincipal.get(row.principal) ?? new Set()
    this.#ofPrincipal.set(row.principal, ids.add(row.id))
  }

  count(): number {
    return [...this.#rows.keys()].filter((id) => this.#live(id)).length
  }

  sweep(limit: number, dryRun: boolean): number {
    const now = this.#clock.now()
    const dead = [...this.#rows.values()]
      .filter((row) => (row.terminated ? row.tombstoneUntil <= now : !this.#live(row.id)))
      .slice(0, limit)
    if (!dryRun) for (const row of dead) this.#drop(row.id)
    return dead.length
  }

  #count(principal: string): number {
    return [...(this.#ofPrincipal.get(principal) ?? [])].filter((id) => this.#live(id)).length
  }

  #drop(id: string): void {
    const principal = this.#rows.get(id)?.principal
    this.#rows.delete(id)
    if (typeof principal !== 'string') return
    const ids = this.#ofPrincipal.get(principal)
    ids?.delete(id)
    if (ids?.size === 0) this.#ofPrincipal.delete(principal)
  }

  #live(id: string): MemorySessionRow | undefined {
    const row = this.#rows.get(id)
    if (!row || row.terminated) return undefined
    // A log of another generation was begun by an unfenced append after the session's own had expired.
    return this.#log.expiresAt(id, row.generation) > this.#clock.now() ? row : undefined
  }

  #record({
    ttl: _ttl,
    terminated: _terminated,
    tombstoneUntil: _until,
    ...row
  }: MemorySessionRow): SessionRecord {
    const ownerAlive = row.owner !== null && this.#nodes.live(row.owner) !== undefined
    return { ...row, ownerAlive, expiresAt: this.#log.expiresAt(row.id, row.generation) }
  }
}
