import { randomBytes } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import { fenced, gone } from '../common/refusals.ts'
import type { Append, Appended, EventLog, NewEvent, OpenStream, Page, StoredEvent } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'

interface Log {
  readonly id: number
  readonly epoch: string
  readonly generation: number
  last: number
  floor: number
  expiresAt: number
  sweepAt: number
  trimAt: number
}

/** As an array: of a page of objects the driver makes half as many again in the same time. */
type Row = [position: number, kind: StoredEvent['kind'], payload: string | Uint8Array, streamId: string]

const INSERT =
  'INSERT INTO mcp_events (log_id, stream_id, position, kind, payload, expires_at) VALUES (?,?,?,?,?,?)'
/** The highest position that a log has given out. */
export const LAST =
  'max(floor, base, coalesce((SELECT max(position) FROM mcp_events WHERE log_id = mcp_logs.id), 0))'
const FIND = `SELECT id, epoch, floor, generation, expires_at AS expiresAt, sweep_at AS sweepAt, trim_at AS trimAt,
  ${LAST} AS last FROM mcp_logs WHERE session_id = ? AND expires_at > ?`
const BEGIN_LOG = `INSERT INTO mcp_logs (session_id, epoch, generation, expires_at, sweep_at) VALUES (?,?,?,?,?)
  RETURNING id`
const FENCE = 'UPDATE mcp_logs SET generation = ?, base = max(base, ?) WHERE session_id = ?'
const SET_EXPIRY = 'UPDATE mcp_logs SET expires_at = ?, sweep_at = ? WHERE id = ?'
const DETACH = 'UPDATE mcp_logs SET session_id = NULL, expires_at = 0, sweep_at = 0 WHERE id = ?'
const REMOVE_SOME =
  'DELETE FROM mcp_events WHERE rowid IN (SELECT rowid FROM mcp_events WHERE log_id = ? LIMIT ?)'
const OLDEST_LIVE =
  'SELECT position FROM mcp_events WHERE log_id = ? AND expires_at > ? ORDER BY position LIMIT 1'
const READ_STREAM = `SELECT position, kind, payload FROM mcp_events
  WHERE log_id = ? AND stream_id = ? AND position > ? ORDER BY position LIMIT ?`
const READ_ALL = `SELECT position, kind, payload, stream_id FROM mcp_events
  WHERE log_id = ? AND position > ? ORDER BY position LIMIT ?`
const BYTES = 'SELECT CAST(payload AS BLOB) AS bytes FROM mcp_events WHERE log_id = ? AND position = ?'

/** Logs remembered between transactions. */
const REMEMBERED = 10_000
/** Events that go with their log at once. Of more the sweep takes care, and nobody waits for it. */
const AT_ONCE = 100

const DUE = 'SELECT id, expires_at AS expiresAt FROM mcp_logs WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?'
const OLDEST =
  'SELECT position, expires_at AS expiresAt FROM mcp_events WHERE log_id = ? ORDER BY position LIMIT ?'
const REMOVE = 'DELETE FROM mcp_events WHERE log_id = ? AND position <= ?'
const NEWEST_BUT = 'SELECT position FROM mcp_events WHERE log_id = ? ORDER BY position DESC LIMIT 1 OFFSET ?'
const COUNT = 'SELECT count(*) AS count FROM mcp_events WHERE log_id = ?'
const SET_TRIMMED = 'UPDATE mcp_logs SET floor = ?, trim_at = ? WHERE id = ?'
const SET_SWEPT = 'UPDATE mcp_logs SET floor = max(floor, ?), sweep_at = ? WHERE id = ?'
const COUNT_DUE = `SELECT count(*) AS count FROM (
  SELECT 1 FROM mcp_logs AS log JOIN mcp_events AS event ON event.log_id = log.id
  WHERE log.sweep_at <= ? AND (log.expires_at <= ? OR event.expires_at <= ?) LIMIT ?)`

const OPEN = `INSERT INTO mcp_open_streams (log_id, stream_id, position, payload, runs) VALUES (?,?,?,?,?)
  ON CONFLICT (log_id, stream_id) DO UPDATE SET payload = excluded.payload, runs = runs + excluded.runs`
const END = 'DELETE FROM mcp_open_streams WHERE log_id = ? AND stream_id = ?'
const OPEN_STREAMS = `SELECT stream_id AS streamId, CAST(payload AS BLOB) AS payload, runs
  FROM mcp_open_streams WHERE log_id = ? ORDER BY position`

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
    const bytes = append.events.reduce((sum, { payload }) => sum + payload.length, 0)
    return this.#db.write((sql) => this.#append(sql, append), bytes)
  }

  read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page> {
    return this.#db.read((sql) => this.#read(sql, query))
  }

  delete(sessionId: string): Promise<void> {
    return this.#db.write((sql) => this.drop(sql, sessionId))
  }

  /** A new, empty log; one that had the name is dropped. Returns its row id. */
  begin(sql: Sql, sessionId: string, generation: number, expiresAt: number): number {
    this.drop(sql, sessionId)
    const epoch = randomBytes(4).toString('hex')
    return (sql(BEGIN_LOG).get(sessionId, epoch, generation, expiresAt, expiresAt) as { id: number }).id
  }

  /** The log goes on in another generation, beyond every position that may have been given out and lost. */
  fence(sql: Sql, sessionId: string, generation: number): void {
    this.#remembered.delete(sessionId)
    sql(FENCE).run(generation, Math.floor(this.#clock.now() * 1000), sessionId)
  }

  /** The log's row was changed by somebody else in this transaction. */
  forget(sessionId: string): void {
    this.#remembered.delete(sessionId)
  }

  last(sql: Sql, sessionId: string): number {
    return this.#find(sql, sessionId, this.#clock.now())?.last ?? 0
  }

  open(sql: Sql, logId: number): readonly OpenStream[] {
    const rows = sql(OPEN_STREAMS).all(logId) as (Omit<OpenStream, 'payload'> & { payload: Uint8Array })[]
    // What cannot be decoded is open all the same, and is to be ended.
    return rows.map(({ payload, ...row }) => ({ ...row, payload: Buffer.from(payload).toString() }))
  }

  extend(sql: Sql, sessionId: string, ttl: number): void {
    const now = this.#clock.now()
    const log = this.#find(sql, sessionId, now)
    if (log) this.#extend(sql, log, now, ttl)
  }

  drop(sql: Sql, sessionId: string): void {
    this.#remembered.delete(sessionId)
    const log = sql('SELECT id FROM mcp_logs WHERE session_id = ?').get(sessionId) as
      | { id: number }
      | undefined
    if (!log) return
    const isEmpty = sql(REMOVE_SOME).run(log.id, AT_ONCE).changes < AT_ONCE
    if (isEmpty) this.#remove(sql, log.id)
    else sql(DETACH).run(log.id)
  }

  /** A log without events. */
  #remove(sql: Sql, id: number): void {
    sql('DELETE FROM mcp_open_streams WHERE log_id = ?').run(id)
    sql('DELETE FROM mcp_logs WHERE id = ?').run(id)
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
      if (dead && !next) this.#remove(sql, id)
      // An empty log that lives may never be written again: then only its own expiry is left to wait for.
      else sql(SET_SWEPT).run(floor, Math.min(next?.expiresAt ?? expiresAt, expiresAt), id)
    }
    return { events, more }
  }

  countDue(sql: Sql, limit: number): number {
    const now = this.#clock.now()
    return (sql(COUNT_DUE).get(now, now, now, limit) as { count: number }).count
  }

  putOpen(sql: Sql, logId: number, open: readonly OpenStream[]): void {
    sql('DELETE FROM mcp_open_streams WHERE log_id = ?').run(logId)
    // So many streams take at least so many positions: whatever is opened later stands behind them.
    for (const [i, { streamId, payload, runs }] of open.entries()) {
      sql(OPEN).run(logId, streamId, i, encode(payload), runs)
    }
  }

  #append(sql: Sql, append: Append): Appended {
    const { sessionId, events, generation, ttl, touch = true, limit, beyond = 0 } = append
    const now = this.#clock.now()
    let log = this.#find(sql, sessionId, now)
    // As good as a fence in the WHERE: the write lock is held, so nobody can have claimed it since it was read.
    if (generation !== undefined && log?.generation !== generation) {
      throw log ? fenced(sessionId, generation, log.generation) : gone(sessionId)
    }
    if (!log) {
      this.begin(sql, sessionId, 0, now + ttl)
      log = this.#find(sql, sessionId, now)!
    }
    log.last = Math.max(log.last, beyond)
    const positions: number[] = []
    for (const { streamId, kind, payload } of events) {
      log.last += 1
      sql(INSERT).run(log.id, streamId, log.last, kind, encode(payload), now + ttl)
      positions.push(log.last)
    }
    this.#noteOpen(sql, log.id, events, positions)
    if (now + ttl < log.sweepAt) {
      log.sweepAt = now + ttl
      sql(SET_EXPIRY).run(log.expiresAt, log.sweepAt, log.id)
    }
    if (touch) this.#extend(sql, log, now, ttl)
    // Counting takes as long as the log: not before so many positions were given out that it can be due.
    if (limit !== undefined && log.last >= log.trimAt && log.last - log.floor > limit * 1.1) {
      this.#trim(sql, log, limit)
    }
    return { positions, epoch: log.epoch }
  }

  /** A stream that ends in the append that opens it was open for nobody: then there is nothing to write. */
  #noteOpen(sql: Sql, logId: number, events: readonly NewEvent[], positions: readonly number[]): void {
    const opened = new Map<string, { position: number; payload: string; runs: number }>()
    for (const [i, { streamId, kind, payload }] of events.entries()) {
      if (kind === 'open') {
        const { position, runs } = opened.get(streamId) ?? { position: positions[i]!, runs: 0 }
        opened.set(streamId, { position, payload, runs: runs + 1 })
      } else if (kind !== 'message') {
        opened.delete(streamId)
        sql(END).run(logId, streamId)
      }
    }
    for (const [streamId, { position, payload, runs }] of opened) {
      sql(OPEN).run(logId, streamId, position, encode(payload), runs)
    }
  }

  #trim(sql: Sql, log: Log, limit: number): void {
    let { count } = sql(COUNT).get(log.id) as { count: number }
    if (count > limit * 1.1) {
      log.floor = (sql(NEWEST_BUT).get(log.id, limit) as { position: number }).position
      sql(REMOVE).run(log.id, log.floor)
      count = limit
    }
    log.trimAt = log.last + Math.floor(limit * 1.1) - count + 1
    sql(SET_TRIMMED).run(log.floor, log.trimAt, log.id)
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
    if (!log)
      return {
        events: [],
        more: false,
        epoch: undefined,
        floor: 0,
        last: 0,
        corrupt: 0,
        scanned: query.after,
      }
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
        ? sql(READ_ALL)
            .raw()
            .all(id, after, query.limit + 1)
        : sql(READ_STREAM)
            .raw()
            .all(id, query.streamId, after, query.limit + 1)
    ) as Row[]
    const more = rows.length > query.limit
    if (more) rows.pop()
    const events: StoredEvent[] = []
    for (const [position, kind, stored, streamId = query.streamId!] of rows) {
      const payload = isDecoded(stored) ? stored : this.#decode(sql, id, position)
      if (payload !== undefined) events.push({ streamId, kind, payload, position })
    }
    const scanned = more ? rows.at(-1)![0] : Math.max(last, query.after)
    return { events, more, epoch, floor, last, corrupt: rows.length - events.length, scanned }
  }

  #decode(sql: Sql, logId: number, position: number): string | undefined {
    const { bytes } = sql(BYTES).get(logId, position) as { bytes: Uint8Array }
    try {
      return utf8.decode(bytes)
    } catch {
      return undefined
    }
  }
}

// Of a lone surrogate the driver would make bytes that are no UTF-8.
function encode(payload: string): string | Uint8Array {
  return (payload as string & { isWellFormed(): boolean }).isWellFormed() ? payload : Buffer.from(payload)
}

/**
 * The driver puts U+FFFD in the place of what cannot be decoded. Where it stands in a text, or where no text was stored,
 * the bytes tell.
 */
function isDecoded(payload: string | Uint8Array): payload is string {
  return typeof payload === 'string' && !payload.includes('\uFFFD')
}
