import type { Clock } from '../../clock.ts'
import { taskExists } from '../common/refusals.ts'
import type { Pushed, TaskPage, TaskRecord, TaskTable } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'

const CREATE =
  'INSERT INTO mcp_tasks (id, session_id, value, expires_at) VALUES (?,?,?,?) ON CONFLICT DO NOTHING'
const COLUMNS = 'SELECT id, session_id AS sessionId, version, value FROM mcp_tasks'
const GET = `${COLUMNS} WHERE id = ? AND expires_at > ?`
const REPLACE = `UPDATE mcp_tasks SET value = ?, version = version + 1, expires_at = coalesce(?, expires_at)
  WHERE id = ? AND version = ? AND expires_at > ?`
const LIST = `${COLUMNS} WHERE session_id IS ? AND id > ? AND expires_at > ? ORDER BY id LIMIT ?`
// The task, unless it is another session's.
const ANYBODYS =
  'SELECT 1 FROM mcp_tasks WHERE id = ? AND expires_at > ? AND (? IS NULL OR session_id IS NULL OR session_id = ?)'
// Numbers have no holes: messages come at the end and go from the front. Two look-ups, however long the queue is.
const QUEUE = `SELECT (SELECT min(number) FROM mcp_task_messages WHERE task_id = ?) AS first,
  (SELECT max(number) FROM mcp_task_messages WHERE task_id = ?) AS last`
const PUSH = 'INSERT INTO mcp_task_messages (task_id, number, text) VALUES (?,?,?)'
const FRONT = 'SELECT number, text FROM mcp_task_messages WHERE task_id = ? ORDER BY number LIMIT ?'
const SHIFT = 'DELETE FROM mcp_task_messages WHERE task_id = ? AND number <= ?'
const DUE = 'SELECT id FROM mcp_tasks WHERE expires_at <= ? ORDER BY expires_at LIMIT ?'
const HAS_TASKS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'mcp_tasks'"

export class SqliteTasks implements TaskTable {
  readonly #db: SqliteDatabase
  readonly #clock: Clock

  constructor(db: SqliteDatabase, clock: Clock) {
    this.#db = db
    this.#clock = clock
  }

  create(task: { id: string; sessionId: string | null; value: string; ttl: number }): Promise<void> {
    const { id, sessionId, value, ttl } = task
    return this.#db.write((sql) => {
      const { changes } = sql(CREATE).run(id, sessionId, value, this.#clock.now() + ttl)
      if (changes === 0) throw taskExists(id)
    })
  }

  get(id: string): Promise<TaskRecord | undefined> {
    return this.#db.read((sql) => sql(GET).get(id, this.#clock.now()) as TaskRecord | undefined)
  }

  replace(id: string, { version, value, ttl }: { version: number; value: string; ttl?: number }) {
    return this.#db.write((sql) => {
      const now = this.#clock.now()
      const expiresAt = ttl === undefined ? null : now + ttl
      return sql(REPLACE).run(value, expiresAt, id, version, now).changes === 1
    })
  }

  list({ sessionId, cursor = '', limit }: Parameters<TaskTable['list']>[0]): Promise<TaskPage> {
    return this.#db.read((sql) => {
      const rows = sql(LIST).all(sessionId, cursor, this.#clock.now(), limit + 1) as TaskRecord[]
      const tasks = rows.slice(0, limit)
      return rows.length > limit ? { tasks, next: tasks.at(-1)!.id } : { tasks }
    })
  }

  push(id: string, { text, limit, sessionId }: Parameters<TaskTable['push']>[1]): Promise<Pushed> {
    return this.#db.write((sql) => {
      if (!this.#isThere(sql, id, sessionId)) return 'absent'
      const { first, last } = sql(QUEUE).get(id, id) as { first: number | null; last: number | null }
      const next = (last ?? 0) + 1
      if (next - (first ?? next) >= limit) return 'full'
      sql(PUSH).run(id, next, text)
      return 'queued'
    }, text.length)
  }

  shift(id: string, { limit, sessionId }: { limit: number; sessionId?: string }): Promise<readonly string[]> {
    return this.#db.write((sql) => {
      if (!this.#isThere(sql, id, sessionId)) return []
      const front = sql(FRONT).all(id, limit) as { number: number; text: string }[]
      const last = front.at(-1)
      if (last) sql(SHIFT).run(id, last.number)
      return front.map(({ text }) => text)
    })
  }

  #isThere(sql: Sql, id: string, sessionId: string | undefined): boolean {
    const asker = sessionId ?? null
    return sql(ANYBODYS).get(id, this.#clock.now(), asker, asker) !== undefined
  }

  sweep(sql: Sql, limit: number): number {
    // A file of the release before, or one that was migrated for events only.
    if (!sql(HAS_TASKS).get()) return 0
    const due = sql(DUE).all(this.#clock.now(), limit) as { id: string }[]
    for (const { id } of due) {
      sql('DELETE FROM mcp_task_messages WHERE task_id = ?').run(id)
      sql('DELETE FROM mcp_tasks WHERE id = ?').run(id)
    }
    return due.length
  }
}
