import { UnderWay } from '../common/under-way.ts'
import type { Slot } from './postgres-append.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { boundedMs } from './postgres-schema.ts'
import { decodeText, packScalars, packTexts, unpacked } from './postgres-text.ts'

/** What this process knows of a log that it alone appends to. */
export interface Ownership {
  /** Under which id of ours the log is ours. */
  readonly appender: string
  readonly logId: string
  readonly epoch: string
  readonly generation: number
  /** The highest position that was given out. */
  last: number
  /** Events that the log has at the most. */
  kept: number
}

/** What became of an attempt to take a log over. */
export type Taken =
  /** It is ours. */
  | 'owned'
  /** It is nobody's: its row counts. Or somebody changed it meanwhile. */
  | 'free'
  /** The log's generation, which is not the one that was asked for; undefined: there is no log. */
  | { readonly generation: number | undefined }

interface Row {
  readonly slot: string | number
  readonly generation: string
  readonly matches: boolean
  /** Set where somebody else who is still there appends to it. */
  readonly holder: string | null
  /** Set, with the rest, where the log's row was written. */
  readonly log_id: string | null
  readonly epoch: string
  readonly base: string
  readonly kept: string
  readonly ours: boolean
}

const URGENT = { repeatable: true, urgent: true }
const MS = "interval '1 millisecond'"

/** Logs remembered. Those that are forgotten are looked up again. */
const REMEMBERED = 100_000

/**
 * The logs that this process appends to from memory. It does so under an id, which is a row in the database, and every log
 * that is its own names that id. The sessions that are created or claimed here are; others are not, and count in their row.
 *
 * An id is used as long as nothing goes wrong. When somebody has deleted it, or nobody knows what became of a statement, the
 * next one is taken, and the logs are taken over from the one before as from anybody: by deleting it, which waits for what
 * is under way.
 */
export class PostgresAppender {
  readonly #connections: PostgresConnections
  readonly #logs: string
  readonly #events: string
  readonly #appenders: string
  readonly #owned = new Map<string, Ownership>()
  readonly #fences = new UnderWay<void>()
  #id: Promise<string> | undefined
  /** Set once `#id` has resolved. */
  #current: string | undefined

  constructor(connections: PostgresConnections, schema: PostgresSchema) {
    this.#connections = connections
    this.#logs = schema.quoted('mcp_logs')
    this.#events = schema.quoted('mcp_events')
    this.#appenders = schema.quoted('mcp_appenders')
  }

  /** Our id. */
  id(): Promise<string> {
    this.#id ??= this.#begin().catch((error) => {
      this.#id = undefined
      throw error
    })
    return this.#id
  }

  /** Undefined: it is not ours, as far as we know. */
  find({ sessionId, generation }: Pick<Slot, 'sessionId' | 'generation'>): Ownership | undefined {
    const ownership = this.#owned.get(sessionId)
    return generation === undefined || generation === ownership?.generation ? ownership : undefined
  }

  /** Is it ours under the id that we go by now? If not, it is to be taken over from the one that we had. */
  isCurrent({ appender }: Ownership): boolean {
    return appender === this.#current
  }

  remember(sessionId: string, ownership: Ownership): void {
    if (this.#owned.size >= REMEMBERED) this.#owned.clear()
    this.#owned.set(sessionId, ownership)
  }

  forget(sessionId: string): void {
    this.#owned.delete(sessionId)
  }

  /** How many events a log has, as somebody has counted; its name as the database has it. */
  counted(name: string, kept: number): void {
    const ownership = this.#owned.get(decodeText(name) ?? name)
    if (ownership) ownership.kept = kept
  }

  /** Appends under this id are over, or nobody knows whether they are: we go on under another. */
  renounce(id: string): void {
    if (this.#current !== id) return
    this.#current = undefined
    this.#id = undefined
  }

  /** Resolves when nothing is appended under this id any more, and never will be. Others wait for the same statement. */
  fence(id: string): Promise<void> {
    return this.#fences.run(id, async () => {
      this.renounce(id)
      const text = `DELETE FROM ${this.#appenders} WHERE appender_id = $1::uuid`
      await this.#connections.query({ text, values: [id] }, URGENT)
    })
  }

  async close(): Promise<void> {
    const id = this.#current
    this.#owned.clear()
    // Who takes over need not do it then. If it fails they can still do it.
    if (id !== undefined) await this.fence(id).catch(() => {})
  }

  /**
   * Writes what the rows of these logs should say before anything is appended: where the log ends, and expiries that are
   * good for another tenth of their time. A log whose appender is gone becomes ours, if it was ours before; else its row
   * counts from then on, as several may be about to append to it. Where the appender is another, and still there, it is
   * fenced, and the next attempt succeeds.
   *
   * What is seen and what is locked may differ by what others did in between. The appender is then another, and that is left
   * for the next attempt: whether the new one is there cannot be known from what was seen.
   */
  async take(slots: readonly Slot[]): Promise<ReadonlyMap<Slot, Taken>> {
    const own = await this.id()
    const known = slots.map(({ sessionId }) => this.#owned.get(sessionId))
    const most = ({ appends }: Slot, of: (append: Slot['appends'][number]) => number) =>
      boundedMs(Math.max(...appends.map(of)))
    const values = [
      own,
      packTexts(slots.map(({ sessionId }) => sessionId)),
      packScalars(slots.map(({ generation = null }) => generation)),
      packScalars(known.map((ownership) => ownership?.appender ?? null)),
      packScalars(known.map((ownership) => ownership?.logId ?? null)),
      packScalars(known.map((ownership) => ownership?.last ?? 0)),
      packScalars(known.map((ownership) => ownership?.kept ?? null)),
      packScalars(slots.map((slot) => most(slot, ({ ttl }) => ttl))),
      packScalars(slots.map((slot) => most(slot, ({ ttl, touch = true }) => (touch ? ttl : 0)))),
    ]
    const rows = await this.#connections.query<Row>({ text: this.#taking(), values }, URGENT)
    const taken = new Map<Slot, Taken>(slots.map((slot) => [slot, { generation: undefined }]))
    const holders = new Set<string>()
    for (const row of rows) {
      const slot = slots[Number(row.slot) - 1]!
      if (!row.matches) taken.set(slot, { generation: Number(row.generation) })
      else taken.set(slot, this.#learn(slot.sessionId, own, row) ? 'owned' : 'free')
      if (row.matches && row.holder !== null) holders.add(row.holder)
    }
    for (const [slot, what] of taken) if (what !== 'owned') this.#owned.delete(slot.sessionId)
    await Promise.all([...holders].map((holder) => this.fence(holder)))
    return taken
  }

  #learn(sessionId: string, appender: string, row: Row): boolean {
    if (row.log_id === null || !row.ours) return false
    const { log_id, epoch, generation, base, kept } = row
    this.remember(sessionId, {
      appender,
      logId: log_id,
      epoch,
      generation: Number(generation),
      last: Number(base),
      kept: Number(kept),
    })
    return true
  }

  #taking(): string {
    return `
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest(${unpacked(2)}, $3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::float8[], $9::float8[])
    WITH ORDINALITY AS asked (session_id, generation, former, log_id, last, kept, ttl, touch, slot)
), seen AS MATERIALIZED (
  SELECT asked.slot, session_id, log.log_id, log.generation, log.appender, asked.ttl, asked.touch,
    asked.generation IS NULL OR asked.generation = log.generation AS matches,
    log.appender IS NULL OR log.appender = $1::uuid OR NOT EXISTS (
      SELECT FROM ${this.#appenders} AS appender WHERE appender_id = log.appender) AS is_free,
    (log.appender = $1::uuid OR log.appender = asked.former) IS TRUE AS ours,
    CASE WHEN log.log_id = asked.log_id THEN asked.last ELSE 0 END AS last,
    CASE WHEN log.appender = asked.former AND log.log_id = asked.log_id THEN asked.kept END AS kept,
    coalesce((SELECT position FROM ${this.#events} AS event WHERE event.log_id = log.log_id ORDER BY position DESC LIMIT 1), 0) AS top
  FROM asked JOIN ${this.#logs} AS log USING (session_id) WHERE log.expires_at > now()
), locked AS MATERIALIZED (
  SELECT seen.* FROM ${this.#logs} AS log JOIN seen USING (session_id)
  WHERE matches AND is_free AND log.log_id = seen.log_id AND log.generation = seen.generation
    AND log.appender IS NOT DISTINCT FROM seen.appender
  ORDER BY log.session_id FOR NO KEY UPDATE OF log
), taken AS (
  UPDATE ${this.#logs} AS log SET
    base = greatest(log.base, locked.top, locked.last),
    kept = CASE WHEN log.appender IS NULL THEN log.kept ELSE locked.kept END,
    appender = CASE WHEN ours THEN $1::uuid END,
    expires_at = CASE WHEN log.expires_at < now() + touch * ${MS} THEN now() + touch * 1.1 * ${MS} ELSE log.expires_at END,
    sweep_at = least(log.sweep_at, now() + ttl * ${MS})
  FROM locked WHERE log.session_id = locked.session_id
  RETURNING slot, log.log_id, epoch, base, coalesce(log.kept, base - floor) AS kept, ours
)
SELECT slot, generation, matches, CASE WHEN NOT is_free THEN appender END AS holder, taken.log_id, epoch, base, taken.kept, taken.ours
FROM seen LEFT JOIN taken USING (slot)`
  }

  async #begin(): Promise<string> {
    const text = `INSERT INTO ${this.#appenders} DEFAULT VALUES RETURNING appender_id`
    const [row] = await this.#connections.query<{ appender_id: string }>({ text }, URGENT)
    this.#current = row!.appender_id
    return row!.appender_id
  }
}
