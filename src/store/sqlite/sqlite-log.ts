import { randomBytes } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import type { Append, Appended, EventLog, Page, StoredEvent } from '../port.ts'
import { fenced, gone } from '../shared/refusals.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'

interface Log {
  readonly id: number
  readonly epoch: string
  readonly generation: number
  last: number
  floor: number
  expiresAt: number
  sweepAt: number
  /** The position at which we last looked for events to trim. */
  looked: number
}

interface Row {
  readonly streamId: string
  readonly position: number
  readonly kind: StoredEvent['kind']
  readonly payload: Uint8Array
}

const INSERT =
  'INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (?,?,?,?,?,?)'
const FIND = `SELECT id, epoch, floor, generation, expires_at AS expiresAt, sweep_at AS sweepAt, 0 AS looked,
  max(floor, coalesce((SELECT max(position) FROM mcp_events WHERE log_id = mcp_logs.id), 0)) AS last
  FROM mcp_logs WHERE session_id = ? AND expires_at > ?`
const BEGIN_LOG = `INSERT INTO mcp_logs (session_id, epoch, generation, expires_at, sweep_at) VALUES (?,?,?,?,?)
  RETURNING id`
const SET_EXPIRY = 'UPDATE mcp_logs SET expires_at = ?, sweep_at = ? WHERE id = ?'
const DETACH = 'UPDATE mcp_logs SET session_id = NULL, expires_at = 0, sweep_at = 0 WHERE session_id = ?'
const OLDEST_LIVE =
  'SELECT position FROM mcp_events WHERE log_id = ? AND expires_at > ? ORDER BY position LIMIT 1'
// The bytes, and not the driver's reading of them, tell what cannot be decoded.
const COLUMNS =
  'SELECT stream_id AS streamId, position, kind, CAST(payload AS BLOB) AS payload FROM mcp_events WHERE log_id = ?'
const READ_STREAM = `${COLUMNS} AND stream_id = ? AND position > ? ORDER BY position LIMIT ?`
const READ_ALL = `${COLUMNS} AND position > ? ORDER BY position LIMIT ?`

/** Logs remembered between transactions. */
const REMEMBERED = 10_000

const DUE = 'SELECT id, expires_at AS expiresAt FROM mcp_logs WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?'
const OLDEST =
  'SELECT position, expires_at AS expiresAt FROM mcp_events WHERE log_id = ? ORDER BY position LIMIT ?'
const REMOVE = 'DELETE FROM mcp_events WHERE log_id = ? AND position <= ?'
const NEWEST_BUT = 'SELECT position FROM mcp_events WHERE log_id = ? ORDER BY position DESC LIMIT 1 OFFSET ?'
const SET_FLOOR = 'UPDATE mcp_logs SET floor = ? WHERE id = ?'
const SET_SWEPT = 'UPDATE mcp_logs SET floor = max(floor, ?), sweep_at = ? WHERE id = ?'
const COUNT_DUE = `SELECT count(*) AS count FROM (
  SELECT 1 FROM mcp_logs AS log JOIN mcp_events AS event ON event.log_id = log.id
  WHERE log.sweep_at <= ? AND (log.expires_at <= ? OR event.expires_at <= ?) LIMIT ?)`

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * SQLite has one writer at a time: positions become visible in the order in which they were given out.
 *
 * Appending costs one INSERT. What it must know of the log is remembered from the transaction before, and holds as
 * long as no other connection has written since and every change of ours passes through here.
 */
export class SqliteLog implements EventLog {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #remembered = new Map<string, Log>()

  constructor(db: SqliteDatabase, clock: Clock) {
    this.#db = db
    this.#clock = clock
    db.onForeignChange(() => this.#remembered.clear())
  }

  append(append: Append): Promise<Appended> {
    return this.#db.write((sql) => this.#append(sql, append))
  }

  read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page> {
    return this.#db.read((sql) => this.#read(sql, query))
  }

  delete(sessionId: string): Promise<void> {
    return this.#db.write((sql) => this.drop(sql, sessionId))
  }

  /** A new, empty log; one that had the name is dropped. Returns its row id. */
  begin(sql: Sql, sessionId: string, generation: number, ttl: number): number {
    this.drop(sql, sessionId)
    const epoch = randomBytes(4).toString('hex')
    const expiresAt = this.#clock.now() + ttl
    return (sql(BEGIN_LOG).get(sessionId, epoch, generation, expiresAt, expiresAt) as { id: number }).id
  }

  fence(sql: Sql, sessionId: string, generation: number): void {
    this.#remembered.delete(sessionId)
    sql('UPDATE mcp_logs SET generation = ? WHERE session_id = ?').run(generation, sessionId)
  }

  extend(sql: Sql, sessionId: string, ttl: number): void {
    const now = this.#clock.now()
    const log = this.#find(sql, sessionId, now)
    if (log) this.#extend(sql, log, now, ttl)
  }

  drop(sql: Sql, sessionId: string): void {
    this.#remembered.delete(sessionId)
    sql(DETACH).run(sessionId)
  }

  /** Events deleted, `limit` at the most; `more` when there are logs it did not get to. */
  sweep(sql: Sql, limit: number): { events: number; more: boolean } {
    const now = this.#clock.now()
    const due = sql(DUE).all(now, limit) as { id: number; expiresAt: number }[]
    if (due.length > 0) this.#remembered.clear()
    let events = 0
    let more = due.length === limit
    for (const { id, expiresAt } of due) {
      if (events >= limit) return { events, more: true }
      const dead = expiresAt <= now
      const oldest = sql(OLDEST).all(id, limit - events + 1) as { position: number; expiresAt: number }[]
      const live = oldest.findIndex((event) => !dead && event.expiresAt > now)
      const count = Math.min(live === -1 ? oldest.length : live, limit - events)
      const floor = oldest[count - 1]?.position ?? 0
      if (count > 0) events += sql(REMOVE).run(id, floor).changes
      const next = oldest[count]
      if (next && (dead || next.expiresAt <= now)) more = true
      if (dead && !next) sql('DELETE FROM mcp_logs WHERE id = ?').run(id)
      // An empty log that lives may never be written again: then only its own expiry is left to wait for.
      else sql(SET_SWEPT).run(floor, Math.min(next?.expiresAt ?? expiresAt, expiresAt), id)
    }
    return { events, more }
  }

  countDue(sql: Sql, limit: number): number {
    const now = this.#clock.now()
    return (sql(COUNT_DUE).get(now, now, now, limit) as { count: number }).count
  }

  #append(sql: Sql, { sessionId, events, generation, ttl, touch = true, limit }: Append): Appended {
    const now = this.#clock.now()
    let log = this.#find(sql, sessionId, now)
    // As good as a fence in the WHERE: the write lock is held, so nobody can have claimed it since it was read.
    if (generation !== undefined && log?.generation !== generation) {
      throw log ? fenced(sessionId, generation, log.generation) : gone(sessionId)
    }
    if (!log) {
      this.begin(sql, sessionId, 0, ttl)
      log = this.#find(sql, sessionId, now)!
    }
    const positions: number[] = []
    for (const { streamId, kind, payload } of events) {
      log.last += 1
      sql(INSERT).run(log.id, streamId, log.last, kind, encode(payload), now + ttl)
      positions.push(log.last)
    }
    if (now + ttl < log.sweepAt) {
      log.sweepAt = now + ttl
      sql(SET_EXPIRY).run(log.expiresAt, log.sweepAt, log.id)
    }
    if (touch) this.#extend(sql, log, now, ttl)
    if (limit !== undefined && log.last - Math.max(log.floor + limit, log.looked) > limit / 10) {
      // Positions have holes where the log was copied from another backend: events are counted, not subtracted.
      log.looked = log.last
      const newest = sql(NEWEST_BUT).get(log.id, limit) as { position: number } | undefined
      if (newest) {
        log.floor = newest.position
        sql(REMOVE).run(log.id, log.floor)
        sql(SET_FLOOR).run(log.floor, log.id)
      }
    }
    return { positions, epoch: log.epoch }
  }

  /** Extends by a tenth more than was asked, so that of many touches only one in a tenth of the ttl is a write. */
  #extend(sql: Sql, log: Log, now: number, ttl: number): void {
    if (log.expiresAt >= now + ttl) return
    log.expiresAt = Math.ceil(now + ttl * 1.1)
    sql(SET_EXPIRY).run(log.expiresAt, log.sweepAt, log.id)
  }

  /** Only in writes. */
  #find(sql: Sql, sessionId: string, now: number): Log | undefined {
    const known = this.#remembered.get(sessionId)
    if (known) return known.expiresAt > now ? known : undefined
    const log = sql(FIND).get(sessionId, now) as Log | undefined
    if (!log) return undefined
    if (this.#remembered.size >= REMEMBERED) this.#remembered.clear()
    this.#remembered.set(sessionId, log)
    return log
  }

  #read(sql: Sql, query: { sessionId: string; streamId?: string; after: number; limit: number }): Page {
    const now = this.#clock.now()
    const log = sql(FIND).get(query.sessionId, now) as Log | undefined
    if (!log) return { events: [], more: false, epoch: undefined, floor: 0, last: 0, corrupt: 0 }
    const { id, epoch, last } = log
    let { floor } = log
    if (log.sweepAt <= now) {
      // What has expired is gone, whether or not a sweep has come by.
      const oldest = sql(OLDEST_LIVE).get(id, now) as { position: number } | undefined
      floor = oldest ? Math.max(floor, oldest.position - 1) : last
    }
    const after = Math.max(query.after, floor)
    const rows = (
      query.streamId === undefined
        ? sql(READ_ALL).all(id, after, query.limit + 1)
        : sql(READ_STREAM).all(id, query.streamId, after, query.limit + 1)
    ) as Row[]
    const more = rows.length > query.limit
    const events: StoredEvent[] = []
    for (const { streamId, position, kind, payload } of more ? rows.slice(0, -1) : rows) {
      const text = decode(payload)
      if (text !== undefined) events.push({ streamId, kind, payload: text, position })
    }
    return { events, more, epoch, floor, last, corrupt: rows.length - Number(more) - events.length }
  }
}

// Of a lone surrogate the driver would make bytes that are no UTF-8.
function encode(payload: string): string | Uint8Array {
  return (payload as string & { isWellFormed(): boolean }).isWellFormed() ? payload : Buffer.from(payload)
}

function decode(payload: Uint8Array): string | undefined {
  try {
    return utf8.decode(payload)
  } catch {
    return undefined
  }
}
