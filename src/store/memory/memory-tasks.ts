import type { Clock } from '../../clock.ts'
import { taskExists } from '../common/refusals.ts'
import type { Pushed, TaskPage, TaskRecord, TaskTable } from '../port.ts'

type Row = TaskRecord & { readonly expiresAt: number; readonly queue: string[] }

export class MemoryTasks implements TaskTable {
  readonly #rows = new Map<string, Row>()
  readonly #clock: Clock
  readonly #assertOpen: () => void

  constructor(clock: Clock, assertOpen: () => void) {
    this.#clock = clock
    this.#assertOpen = assertOpen
  }

  async create(task: { id: string; sessionId: string | null; value: string; ttl: number }): Promise<void> {
    this.#assertOpen()
    const { ttl, ...given } = task
    if (this.#rows.has(given.id)) throw taskExists(given.id)
    this.#rows.set(given.id, { ...given, version: 1, expiresAt: this.#clock.now() + ttl, queue: [] })
  }

  async get(id: string): Promise<TaskRecord | undefined> {
    this.#assertOpen()
    const row = this.#live(id)
    return row && record(row)
  }

  async replace(id: string, { version, value, ttl }: { version: number; value: string; ttl?: number }) {
    this.#assertOpen()
    const row = this.#live(id)
    if (row?.version !== version) return false
    const expiresAt = ttl === undefined ? row.expiresAt : this.#clock.now() + ttl
    this.#rows.set(id, { ...row, version: version + 1, value, expiresAt })
    return true
  }

  async list({ sessionId, cursor = '', limit }: Parameters<TaskTable['list']>[0]): Promise<TaskPage> {
    this.#assertOpen()
    const rows = [...this.#rows.keys()]
      .filter((id) => id > cursor)
      .sort()
      .map((id) => this.#live(id))
      .filter((row) => row?.sessionId === sessionId)
    const tasks = rows.slice(0, limit).map((row) => record(row!))
    return rows.length > limit ? { tasks, next: tasks.at(-1)!.id } : { tasks }
  }

  async push(id: string, { text, limit, sessionId }: Parameters<TaskTable['push']>[1]): Promise<Pushed> {
    this.#assertOpen()
    const row = this.#of(id, sessionId)
    if (!row) return 'absent'
    if (row.queue.length >= limit) return 'full'
    row.queue.push(text)
    return 'queued'
  }

  async shift(id: string, { limit, sessionId }: { limit: number; sessionId?: string }) {
    this.#assertOpen()
    return this.#of(id, sessionId)?.queue.splice(0, limit) ?? []
  }

  sweep(limit: number): number {
    const dead = [...this.#rows.keys()].filter((id) => !this.#live(id)).slice(0, limit)
    for (const id of dead) this.#rows.delete(id)
    return dead.length
  }

  /** The task, unless it is another session's. */
  #of(id: string, sessionId: string | undefined): Row | undefined {
    const row = this.#live(id)
    const isTheirs = sessionId === undefined || row?.sessionId === null || row?.sessionId === sessionId
    return isTheirs ? row : undefined
  }

  #live(id: string): Row | undefined {
    const row = this.#rows.get(id)
    return row && row.expiresAt > this.#clock.now() ? row : undefined
  }
}

function record({ expiresAt: _expiresAt, queue: _queue, ...row }: Row): TaskRecord {
  return row
}
