import type { LogPage, Tombstone, Transfer } from '../port.ts'
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

  async take(query: { sessionId: string; after: number; limit: number }) {
    this.#assertOpen()
    const { sessionId } = query
    const row = this.#sessions.row(sessionId)
    if (row?.terminated) return { sessionId, terminatedUntil: row.tombstoneUntil }
    const page = await this.#log.read(query)
    const log = this.#log.live(sessionId)
    if (!log || log.epoch !== page.epoch) return undefined
    const { epoch, generation, expiresAt } = log
    const expiries = new Map(log.events.map((event) => [event.position, event.expiresAt]))
    const events = page.events
      .filter(({ position }) => expiries.has(position))
      .map((event) => ({ ...event, expiresAt: expiries.get(event.position)! }))
    const open = this.#log.open(sessionId)
    const taken = { ...page, sessionId, epoch, generation, expiresAt, events, open }
    if (!row) return { ...taken, session: null }
    const { principal, state, delivered, createdAt, lastUsedAt, ttl } = row
    const session = { principal, state, delivered, createdAt, lastUsedAt, ttl }
    return { ...taken, session }
  }

  async put(page: LogPage | Tombstone): Promise<boolean> {
    this.#assertOpen()
    if ('terminatedUntil' in page) {
      this.#sessions.bury(page.sessionId, page.terminatedUntil)
      return true
    }
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
    log.open = new Map(page.open.map((stream) => [stream.streamId, stream]))
    log.expiresAt = Math.max(log.expiresAt, page.expiresAt)
    if (session) {
      const delivered = Math.max(session.delivered, row?.delivered ?? 0)
      const kept = { owner: row?.owner ?? null, terminated: false, tombstoneUntil: 0 }
      this.#sessions.put({ id: sessionId, ...session, ...kept, delivered, generation })
    }
    return true
  }
}
