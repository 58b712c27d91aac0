import type { LogPage, Transfer } from '../port.ts'
import type { MemoryLog } from './memory-log.ts'
import type { MemorySessions } from './memory-sessions.ts'

export class MemoryTransfer implements Transfer {
  readonly #log: MemoryLog
  readonly #sessions: MemorySessions
  readonly #assertOpen: () => void

  constructor(log: MemoryLog, sessions: MemorySessions, assertOpen: () => void) {
    this.#log = log
    this.#sessions = sessions
    this.#assertOpen = assertOpen
  }

  async *ids(): AsyncGenerator<string> {
    this.#assertOpen()
    yield* this.#log.ids()
  }

  async take(query: { sessionId: string; after: number; limit: number }): Promise<LogPage | undefined> {
    const { sessionId } = query
    const page = await this.#log.read(query)
    const log = this.#log.live(sessionId)
    if (!log || log.epoch !== page.epoch) return undefined
    const { epoch, generation, expiresAt } = log
    const expiries = new Map(log.events.map((event) => [event.position, event.expiresAt]))
    const events = page.events
      .filter(({ position }) => expiries.has(position))
      .map((event) => ({ ...event, expiresAt: expiries.get(event.position)! }))
    const row = this.#sessions.row(sessionId)
    if (!row || row.terminated)
      return { ...page, sessionId, epoch, generation, expiresAt, events, session: null }
    const { principal, state, delivered, createdAt, lastUsedAt, ttl } = row
    const session = { principal, state, delivered, createdAt, lastUsedAt, ttl }
    return { ...page, sessionId, epoch, generation, expiresAt, events, session }
  }

  async put(page: LogPage): Promise<boolean> {
    this.#assertOpen()
    const { sessionId, epoch, generation, session } = page
    const known = this.#log.live(sessionId)
    if (known && (known.epoch !== epoch || known.generation > generation)) return false
    const row = this.#sessions.row(sessionId)
    if (row?.terminated) return false
    const log = known ?? this.#log.begin(sessionId, generation, 0)
    log.epoch = epoch
    log.generation = generation
    log.events.push(...page.events.filter(({ position }) => position > log.last))
    log.last = Math.max(log.last, page.more ? (page.events.at(-1)?.position ?? 0) : page.last)
    log.floor = Math.max(log.floor, page.floor)
    log.expiresAt = Math.max(log.expiresAt, page.expiresAt)
    if (session) {
      const delivered = Math.max(session.delivered, row?.delivered ?? 0)
      const kept = { owner: row?.owner ?? null, terminated: false, tombstoneUntil: 0 }
      this.#sessions.put({ id: sessionId, ...session, ...kept, delivered, generation })
    }
    return true
  }
}
