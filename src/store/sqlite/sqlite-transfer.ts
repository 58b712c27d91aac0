import type { Clock } from '../../clock.ts'
import type { LogPage, Tombstone, Transfer } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import { LAST, type SqliteLog } from './sqlite-log.ts'
import { parseState } from './sqlite-sessions.ts'

interface Log {
  readonly id: number
  readonly epoch: string
  readonly generation: number
  readonly expiresAt: number
  readonly last: number
}

type Session = NonNullable<LogPage['session']>

const LOG = `SELECT id, epoch, generation, expires_at AS expiresAt, ${LAST} AS last
  FROM mcp_logs WHERE session_id = ? AND expires_at > ?`
const IDS = `SELECT session_id AS id FROM mcp_logs
  WHERE session_id > ? AND expires_at > ? ORDER BY session_id LIMIT 1000`
const EXPIRIES = `SELECT position, expires_at AS expiresAt FROM mcp_events
  WHERE log_id = ? AND position > ? AND position <= ? ORDER BY position`
const HAS_SESSIONS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'mcp_sessions'"
const SESSION = `SELECT principal, state, delivered, created_at AS createdAt, last_used_at AS lastUsedAt, ttl
  FROM mcp_sessions WHERE id = ? AND log_id = ? AND terminated_until IS NULL`
const TOMBSTONE = `SELECT terminated_until AS terminatedUntil FROM mcp_sessions
  WHERE id = ? AND terminated_until > ?`
const PUT_TOMBSTONE = `INSERT INTO mcp_sessions
  (id, state, created_at, last_used_at, ttl, log_id, terminated_until, sweep_at) VALUES (?,'{}',?,?,0,0,?,?)
  ON CONFLICT (id) DO UPDATE SET sweep_at = excluded.sweep_at,
    terminated_until = max(coalesce(terminated_until, 0), excluded.terminated_until)`
const INSERT =
  'INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (?,?,?,?,?,?)'
const UPDATE_LOG = `UPDATE mcp_logs SET epoch = ?, generation = ?, base = max(base, ?), floor = max(floor, ?), expires_at = max(expires_at, ?),
  sweep_at = min(sweep_at, ?) WHERE id = ?`
const PUT_SESSION = `INSERT INTO mcp_sessions
  (id, principal, state, delivered, created_at, last_used_at, ttl, log_id, sweep_at) VALUES (?,?,?,?,?,?,?,?,?)
  ON CONFLICT (id) DO UPDATE SET principal = excluded.principal, state = excluded.state,
    delivered = CASE WHEN log_id = excluded.log_id THEN max(delivered, excluded.delivered) ELSE excluded.delivered END,
    owner = CASE WHEN log_id = excluded.log_id THEN owner END, created_at = excluded.created_at,
    last_used_at = excluded.last_used_at, ttl = excluded.ttl, log_id = excluded.log_id, sweep_at = excluded.sweep_at,
    terminated_until = NULL`

export class SqliteTransfer implements Transfer {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #log: SqliteLog

  constructor(db: SqliteDatabase, clock: Clock, log: SqliteLog) {
    this.#db = db
    this.#clock = clock
    this.#log = log
  }

  async *ids(): AsyncGenerator<string> {
    for (let after = ''; ; ) {
      const rows = await this.#db.read((sql) => sql(IDS).all(after, this.#clock.now()) as { id: string }[])
      for (const { id } of rows) yield id
      const last = rows.at(-1)
      if (!last) return
      after = last.id
    }
  }

  async take(query: { sessionId: string; after: number; limit: number }) {
    const { sessionId } = query
    const tombstone = await this.#db.read((sql) => this.#tombstone(sql, sessionId))
    if (tombstone) return tombstone
    const page = await this.#log.read(query)
    return this.#db.read((sql) => {
      const log = sql(LOG).get(sessionId, this.#clock.now()) as Log | undefined
      if (!log || log.epoch !== page.epoch) return undefined
      const { id, epoch, generation, expiresAt } = log
      const [first, last] = [page.events[0]?.position ?? 0, page.events.at(-1)?.position ?? 0]
      const rows = sql(EXPIRIES).all(id, first - 1, last) as { position: number; expiresAt: number }[]
      const expiries = new Map(rows.map((row) => [row.position, row.expiresAt]))
      const events = page.events
        .filter(({ position }) => expiries.has(position))
        .map((event) => ({ ...event, expiresAt: expiries.get(event.position)! }))
      const session = this.#session(sql, sessionId, id)
      const open = this.#log.open(sql, id)
      return { ...page, sessionId, epoch, generation, expiresAt, events, open, session }
    })
  }

  put(page: LogPage | Tombstone): Promise<boolean> {
    if ('terminatedUntil' in page) return this.#putTombstone(page)
    const { sessionId, epoch, generation, session } = page
    return this.#db.write((sql) => {
      const now = this.#clock.now()
      const known = sql(LOG).get(sessionId, now) as Log | undefined
      if (known && (known.epoch !== epoch || known.generation > generation)) return false
      if (this.#tombstone(sql, sessionId)) return false
      const id = known?.id ?? this.#log.begin(sql, sessionId, generation, page.expiresAt)
      const last = known?.last ?? 0
      const events = page.events.filter(({ position }) => position > last)
      for (const { streamId, position, kind, payload, expiresAt } of events) {
        sql(INSERT).run(id, streamId, position, kind, payload, expiresAt)
      }
      this.#log.putOpen(sql, id, page.open)
      // With the last page the counter comes too: the source may have given out positions that no event has any more.
      const base = page.more ? 0 : page.last
      const soonest = Math.min(page.expiresAt, ...events.map(({ expiresAt }) => expiresAt))
      sql(UPDATE_LOG).run(epoch, generation, base, page.floor, page.expiresAt, soonest, id)
      if (session) this.#putSession(sql, page, session, id)
      this.#log.forget(sessionId)
      return true
    })
  }

  #putSession(sql: Sql, { sessionId, expiresAt }: LogPage, session: Session, logId: number): void {
    const { principal, state, delivered, createdAt, lastUsedAt, ttl } = session
    const text = JSON.stringify(state)
    sql(PUT_SESSION).run(sessionId, principal, text, delivered, createdAt, lastUsedAt, ttl, logId, expiresAt)
  }

  #tombstone(sql: Sql, sessionId: string): Tombstone | undefined {
    if (!sql(HAS_SESSIONS).get()) return undefined
    const row = sql(TOMBSTONE).get(sessionId, this.#clock.now()) as { terminatedUntil: number } | undefined
    return row && { sessionId, ...row }
  }

  #putTombstone({ sessionId, terminatedUntil }: Tombstone): Promise<boolean> {
    return this.#db.write((sql) => {
      const now = this.#clock.now()
      this.#log.drop(sql, sessionId)
      sql(PUT_TOMBSTONE).run(sessionId, now, now, terminatedUntil, terminatedUntil)
      return true
    })
  }

  #session(sql: Sql, sessionId: string, logId: number): LogPage['session'] {
    if (!sql(HAS_SESSIONS).get()) return null
    const row = sql(SESSION).get(sessionId, logId) as (Omit<Session, 'state'> & { state: string }) | undefined
    return row ? { ...row, state: parseState({ id: sessionId, state: row.state }) } : null
  }
}
