import { taskExists } from '../common/refusals.ts'
import type { Pushed, TaskPage, TaskRecord, TaskTable } from '../port.ts'
import { type PostgresSchema, span } from './postgres-schema.ts'
import { type Sql, sql } from './postgres-sql.ts'
import { decodeText, encodeText } from './postgres-text.ts'

interface Row {
  id: string
  session_id: string | null
  version: string
  value: string
}

/** Of one `shift` that others race. */
const MAX_ROUNDS = 20
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
    const made = await this.#schema.rows(sql`
      INSERT INTO ${this.#table} (id, session_id, value, expires_at)
      VALUES (${encodeText(id)}, ${encoded(sessionId)}, ${encodeText(value)}, now() + ${span(ttl)})
      ON CONFLICT DO NOTHING RETURNING id`)
    if (made.length === 0) throw taskExists(id)
  }

  async get(id: string): Promise<TaskRecord | undefined> {
    await this.#opened()
    const rows = await this.#schema.rows<Row>(
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
    const replaced = await this.#schema.rows(sql`
      UPDATE ${this.#table} SET value = ${encodeText(value)}, version = version + 1, expires_at = ${expiresAt}
      WHERE id = ${encodeText(id)} AND version = ${version} AND expires_at > now() RETURNING id`)
    return replaced.length === 1
  }

  async list({ sessionId, cursor = '', limit }: Parameters<TaskTable['list']>[0]): Promise<TaskPage> {
    await this.#opened()
    const mine = sessionId === null ? sql`session_id IS NULL` : sql`session_id = ${encodeText(sessionId)}`
    const rows = await this.#schema.rows<Row>(
      sql`SELECT id, session_id, version, value FROM ${this.#table}
        WHERE ${mine} AND id > ${encodeText(cursor)} AND expires_at > now() ORDER BY id LIMIT ${limit + 1}::bigint`,
      REPEATABLE,
    )
    const tasks = rows.slice(0, limit).map(toRecord)
    return rows.length > limit ? { tasks, next: tasks.at(-1)!.id } : { tasks }
  }

  async push(id: string, message: Parameters<TaskTable['push']>[1]): Promise<Pushed> {
    await this.#opened()
    const { text, limit, sessionId } = message
    // The queue's row is locked while it gives out the number, so that messages become visible in order.
    const [row] = await this.#schema.rows<{ tasks: string; queued: string }>(sql`
      WITH task AS (${this.#taskOf(id, sessionId)}), numbered AS (
        INSERT INTO ${this.#queues} AS queue (task_id, added) SELECT id, 1 FROM task WHERE ${limit}::bigint > 0
        ON CONFLICT (task_id) DO UPDATE SET added = queue.added + 1 WHERE queue.added - queue.taken < ${limit}::bigint
        RETURNING task_id, added
      ), put AS (
        INSERT INTO ${this.#messages} (task_id, number, text) SELECT task_id, added, ${encodeText(text)} FROM numbered
      )
      SELECT (SELECT count(*) FROM task) AS tasks, (SELECT count(*) FROM numbered) AS queued`)
    if (Number(row!.queued) > 0) return 'queued'
    return Number(row!.tasks) > 0 ? 'full' : 'absent'
  }

  async shift(
    id: string,
    { limit, sessionId }: Parameters<TaskTable['shift']>[1],
  ): Promise<readonly string[]> {
    await this.#opened()
    const taken: string[] = []
    for (let round = 0; round < MAX_ROUNDS && taken.length < limit; round++) {
      const { texts, left } = await this.#shift(id, limit - taken.length, sessionId).catch((error) => {
        // What was taken so far is nowhere else any more.
        if (taken.length > 0) return { texts: [], left: 0 }
        throw error
      })
      taken.push(...texts)
      if (left === 0) break
    }
    return taken
  }

  /**
   * Who comes second waits for the rows that the first takes, and then has fewer than there are: `left` tells. It is
   * read under the lock of the queue's row, and falls with each round, whoever takes them.
   */
  async #shift(id: string, limit: number, sessionId: string | undefined) {
    const rows = await this.#schema.rows<{ number: string | null; text: string; left: string }>(sql`
      WITH front AS MATERIALIZED (
        SELECT task_id, number FROM ${this.#messages}
        WHERE task_id IN (${this.#taskOf(id, sessionId)}) ORDER BY number LIMIT ${limit}::bigint FOR UPDATE
      ), gone AS (
        DELETE FROM ${this.#messages} AS message USING front
        WHERE message.task_id = front.task_id AND message.number = front.number RETURNING message.number, text
      ), queue AS (
        UPDATE ${this.#queues} SET taken = taken + (SELECT count(*) FROM gone)
        WHERE task_id IN (${this.#taskOf(id, sessionId)}) RETURNING added - taken AS waiting
      )
      SELECT number, text, waiting AS left FROM queue LEFT JOIN gone ON true ORDER BY number`)
    const texts = rows.filter(({ number }) => number !== null).map(({ text }) => decoded(text))
    return { texts, left: Number(rows[0]?.left ?? 0) }
  }

  /** The task, unless it is another session's. */
  #taskOf(id: string, sessionId: string | undefined): Sql {
    const theirs =
      sessionId === undefined
        ? sql``
        : sql` AND (session_id IS NULL OR session_id = ${encodeText(sessionId)})`
    return sql`SELECT id FROM ${this.#table} WHERE id = ${encodeText(id)} AND expires_at > now()${theirs}`
  }

  get #queues() {
    return this.#schema.table('mcp_task_queues')
  }

  get #messages() {
    return this.#schema.table('mcp_task_messages')
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
