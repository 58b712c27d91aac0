import { randomBytes } from 'node:crypto'
import {
  type Append,
  type Appended,
  type EventLog,
  fenced,
  gone,
  type NewEvent,
  type Page,
} from 'mcp-persist/backend'
import { type JsonFile, type Log, live, type Session } from './json-file.ts'

export function newLog(generation: number, ttl: number, session: Session | null): Log {
  const epoch = randomBytes(4).toString('hex')
  const expiresAt = Date.now() + ttl
  return { epoch, generation, last: 0, floor: 0, expiresAt, events: [], open: [], session }
}

export class FileLog implements EventLog {
  readonly #file: JsonFile

  constructor(file: JsonFile) {
    this.#file = file
  }

  append(append: Append): Promise<Appended> {
    const { sessionId, events, generation, ttl, touch = true, limit, beyond = 0 } = append
    return this.#file.write(() => {
      let log = live(this.#file.logs, sessionId)
      // Compared in the step that writes: a fence that is read first and used later does not hold.
      if (generation !== undefined && !log) throw gone(sessionId)
      if (generation !== undefined && log?.generation !== generation) {
        throw fenced(sessionId, generation, log!.generation)
      }
      log ??= newLog(0, ttl, null)
      this.#file.logs.set(sessionId, log)
      log.last = Math.max(log.last, beyond)
      const expiresAt = Date.now() + ttl
      const positions = events.map((event) => {
        log.last += 1
        log.events.push({ ...event, position: log.last, expiresAt })
        noteOpen(log, event)
        return log.last
      })
      if (touch) log.expiresAt = Math.max(log.expiresAt, expiresAt)
      if (limit !== undefined) drop(log, log.events.length - limit)
      return { positions, epoch: log.epoch }
    })
  }

  read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page> {
    const { sessionId, streamId, after, limit } = query
    return this.#file.read(() => {
      const log = live(this.#file.logs, sessionId)
      if (!log) {
        return { events: [], more: false, epoch: undefined, floor: 0, last: 0, corrupt: 0, scanned: after }
      }
      drop(log, countExpired(log))
      const found = log.events.filter(
        (event) => event.position > after && (streamId === undefined || event.streamId === streamId),
      )
      const events = found.slice(0, limit).map(({ expiresAt: _, ...event }) => event)
      const more = found.length > events.length
      const scanned = more ? events.at(-1)!.position : Math.max(log.last, after)
      return { events, more, epoch: log.epoch, floor: log.floor, last: log.last, corrupt: 0, scanned }
    })
  }

  delete(sessionId: string): Promise<void> {
    return this.#file.write(() => void this.#file.logs.delete(sessionId))
  }
}

/** The oldest events go; nobody can resume before the floor any more. */
export function drop(log: Log, count: number): void {
  if (count <= 0) return
  log.floor = log.events[count - 1]!.position
  log.events.splice(0, count)
}

/** Of the oldest: what lies behind one that lives stays until it goes. */
export function countExpired(log: Log): number {
  const now = Date.now()
  const first = log.events.findIndex(({ expiresAt }) => expiresAt > now)
  return first === -1 ? log.events.length : first
}

function noteOpen(log: Log, { streamId, kind, payload }: NewEvent): void {
  const index = log.open.findIndex((stream) => stream.streamId === streamId)
  if (kind === 'final' || kind === 'end') {
    if (index !== -1) log.open.splice(index, 1)
  } else if (kind === 'open') {
    const runs = (log.open[index]?.runs ?? 0) + 1
    log.open.splice(index === -1 ? log.open.length : index, 1, { streamId, payload, runs })
  }
}
