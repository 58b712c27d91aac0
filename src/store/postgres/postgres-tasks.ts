import type { TaskPage, TaskRecord, TaskTable } from '../port.ts'
import { taskExists } from '../shared/refusals.ts'
import { sql } from './postgres-kysely.ts'
import { type PostgresSchema, span } from './postgres-schema.ts'
import { decodeText, encodeText } from './postgres-text.ts'

interface Row {
  id: string
  session_id: string | null
  version: string
  value: string
}

const REPEATABLE = { repeatable: true }

export class PostgresTasks implements TaskTable {
  readonly #schema: PostgresSchema
  readonly #opened: () => Promise<void>

  constructor(schema: PostgresSchema, opened: () => Promise<void>) {
    this.#schema = schema
    this.#opened = opened
  }

  async create(task: { id: string; sessionId: string | null; value: string; ttl: number }): Promise<void> {
    await this.#opened()
    const { id, sessionId, value, ttl } = task
    const made = await this.#schema.raw(sql`
      INSERT INTO ${this.#table} (id, session_id, value, expires_at)
      VALUES (${encodeText(id)}, ${encoded(sessionId)}, ${encodeText(value)}, now() + ${span(ttl)})
      ON CONFLICT DO NOTHING RETURNING id`)
    if (made.length === 0) throw taskExists(id)
  }

  async get(id: string): Promise<TaskRecord | undefined> {
    await this.#opened()
    const rows = await this.#schema.raw<Row>(
      sql`SELECT id, session_id, version, value FROM ${this.#table}
        WHERE id = ${encodeText(id)} AND expires_at > now()`,
      REPEATABLE,
    )
    return rows[0] && toRecord(rows[0])
  }

  async replace(id: string, { version, value, ttl }: { version: number; value: string; ttl?: number }) {
    await this.#opened()
    const expiresAt = ttl === undefined ? sql`expires_at` : sql`now() + ${span(ttl)}`
    // Of two at once the second waits for the row, and finds another version in it.
    const replaced = await this.#schema.raw(sql`
      UPDATE ${this.#table} SET value = ${encodeText(value)}, version = version + 1, expires_at = ${expiresAt}
      WHERE id = ${encodeText(id)} AND version = ${version} AND expires_at > now() RETURNING id`)
    return replaced.length === 1
  }

  async list({ sessionId, cursor = '', limit }: Parameters<TaskTable['list']>[0]): Promise<TaskPage> {
    await this.#opened()
    const mine = sessionId === null ? sql`session_id IS NULL` : sql`session_id = ${encodeText(sessionId)}`
    const rows = await this.#schema.raw<Row>(
      sql`SELECT id, session_id, version, value FROM ${this.#table}
        WHERE ${mine} AND id > ${encodeText(cursor)} AND expires_at > now() ORDER BY id LIMIT ${limit + 1}`,
      REPEATABLE,
    )
    const tasks = rows.slice(0, limit).map(toRecord)
    return rows.length > limit ? { tasks, next: tasks.at(-1)!.id } : { tasks }
  }

  get #table() {
    return this.#schema.table('mcp_tasks')
  }
}

function encoded(text: string | null): string | null {
  return text === null ? null : encodeText(text)
}

function decoded(text: string): string {
  return decodeText(text) ?? text
}

function toRecord({ id, session_id, version, value }: Row): TaskRecord {
  const sessionId = session_id === null ? null : decoded(session_id)
  return { id: decoded(id), sessionId, version: Number(version), value: decoded(value) }
}
