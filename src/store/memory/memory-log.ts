import { randomBytes } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import { fenced, gone } from '../common/refusals.ts'
import type { Append, Appended, EventLog, NewEvent, OpenStream, Page, StoredEvent } from '../port.ts'

export interface MemoryLogRow {
  epoch: string
  last: number
  floor: number
  /** 0: not fenced. */
  generation: number
  expiresAt: number
  events: (StoredEvent & { expiresAt: number })[]
  open: Map<string, OpenStream>
}

/** One array per session. A method runs to its end in one turn of the event loop: that makes it atomic. */
export class MemoryLog implements EventLog {
  readonly #logs = new Map<string, MemoryLogRow>()
  readonly #clock: Clock
  readonly #assertOpen: () => void

  constructor(clock: Clock, assertOpen: () => void) {
    this.#clock = clock
    this.#assertOpen = assertOpen
  }

  async append({
    sessionId,
    events,
    generation,
    ttl,
    touch = true,
    limit,
    beyond = 0,
  }: Append): Promise<Appended> {
    this.#assertOpen()
    const now = this.#clock.now()
    let log = this.live(sessionId)
    if (generation !== undefined) {
      if (!log) throw gone(sessionId)
      if (log.generation !== generation) throw fenced(sessionId, generation, log.generation)
    }
    log ??= this.begin(sessionId, 0, ttl)
    const positions: number[] = []
    log.last = Math.max(log.last, beyond)
    for (const event of events) {
      log.last += 1
      positions.push(log.last)
      log.events.push({ ...event, position: log.last, expiresAt: now + ttl })
      noteOpen(log.open, event)
    }
    if (touch) log.expiresAt = Math.max(log.expiresAt, now + ttl)
    if (limit !== undefined && log.events.length > limit * 1.1) this.#drop(log, log.events.length - limit)
    return { positions, epoch: log.epoch }
  }

  async read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page> {
    this.#assertOpen()
    const log = this.live(query.sessionId)
    if (!log)
      return {
        events: [],
        more: false,
        epoch: undefined,
        floor: 0,
        last: 0,
        corrupt: 0,
        scanned: query.after,
      }
    const now = this.#clock.now()
    const expired = log.events.findIndex((event) => event.expiresAt > now)
    this.#drop(log, expired === -1 ? log.events.length : expired)
    const found = log.events.filter(
      (event) =>
        event.position > query.after && (query.streamId === undefined || event.streamId === query.streamId),
    )
    const events = found.slice(0, query.limit).map(({ expiresAt: _expiresAt, ...event }) => event)
    const { epoch, floor, last } = log
    const more = found.length > events.length
    const scanned = more ? events.at(-1)!.position : Math.max(last, query.after)
    return { events, more, epoch, floor, last, corrupt: 0, scanned }
  }

  async delete(sessionId: string): Promise<void> {
    this.#assertOpen()
    this.#logs.delete(sessionId)
  }

  begin(sessionId: string, generation: number, ttl: number): MemoryLogRow {
    const epoch = randomBytes(4).toString('hex')
    const expiresAt = this.#clock.now() + ttl
    const log = { epoch, last: 0, floor: 0, generation, expiresAt, events: [], open: new Map() }
    this.#logs.set(sessionId, log)
    return log
  }

  /** The log goes on in another generation, beyond every position that may have been given out and lost. */
  fence(sessionId: string, generation: number): void {
    const log = this.live(sessionId)
    if (!log) return
    log.generation = generation
    log.last = Math.max(log.last, Math.floor(this.#clock.now() * 1000))
  }

  last(sessionId: string): number {
    return this.live(sessionId)?.last ?? 0
  }

  open(sessionId: string): readonly OpenStream[] {
    return [...(this.live(sessionId)?.open.values() ?? [])]
  }

  extend(sessionId: string, ttl: number): void {
    const log = this.live(sessionId)
    if (log) log.expiresAt = Math.max(log.expiresAt, this.#clock.now() + ttl)
  }

  /** 0: there is no such log in this generation. */
  expiresAt(sessionId: string, generation: number): number {
    const log = this.live(sessionId)
    return log?.generation === generation ? log.expiresAt : 0
  }

  drop(sessionId: string): void {
    this.#logs.delete(sessionId)
  }

  ids(): string[] {
    return [...this.#logs.keys()].filter((id) => this.live(id))
  }

  count(): number {
    let events = 0
    for (const log of this.#logs.values()) events += log.events.length
    return events
  }

  sweep(limit: number, dryRun: boolean): number {
    const now = this.#clock.now()
    let swept = 0
    for (const [id, log] of this.#logs) {
      const dead = log.expiresAt <= now
      const expired = dead ? log.events.length : log.events.filter((event) => event.expiresAt <= now).length
      const count = Math.min(expired, limit - swept)
      swept += count
      if (!dryRun) {
        this.#drop(log, count)
        if (dead && log.events.length === 0) this.#logs.delete(id)
      }
      if (swept >= limit) break
    }
    return swept
  }

  live(sessionId: string): MemoryLogRow | undefined {
    const log = this.#logs.get(sessionId)
    return log && log.expiresAt > this.#clock.now() ? log : undefined
  }

  #drop(log: MemoryLogRow, count: number): void {
    if (count <= 0) return
    log.floor = log.events[count - 1]!.position
    log.events.splice(0, count)
  }
}

function noteOpen(open: Map<string, OpenStream>, { streamId, kind, payload }: NewEvent): void {
  if (kind === 'open') open.set(streamId, { streamId, payload, runs: (open.get(streamId)?.runs ?? 0) + 1 })
  else if (kind === 'final' || kind === 'end') open.delete(streamId)
}
