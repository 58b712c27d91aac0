import type { Clock } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import { nextGeneration } from '../common/generation.ts'
import { taken, terminated, tooMany } from '../common/refusals.ts'
import type {
  ClaimedSession,
  SessionClaim,
  SessionPage,
  SessionRecord,
  SessionState,
  SessionTable,
  SessionToCreate,
  SessionTouch,
} from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import type { SqliteLog } from './sqlite-log.ts'
import type { SqliteNodes } from './sqlite-nodes.ts'

interface Row {
  readonly id: string
  readonly principal: string | null
  readonly state: string
  readonly owner: string | null
  readonly generation: number
  readonly delivered: number
  readonly createdAt: number
  readonly lastUsedAt: number
  readonly expiresAt: number
  readonly logId: number
  readonly ttl: number
}

// A session lives while its own log does: not terminated, not expired, and not begun anew by somebody else's append.
const ALIVE = `FROM mcp_sessions AS session JOIN mcp_logs AS log
  ON log.id = session.log_id AND log.session_id = session.id AND log.expires_at > ?
  WHERE session.terminated_until IS NULL`
const COLUMNS = `SELECT session.id, principal, state, owner, generation, delivered, created_at AS createdAt,
  last_used_at AS lastUsedAt, log.expires_at AS expiresAt, log_id AS logId, ttl`
const GET = `${COLUMNS} ${ALIVE} AND session.id = ?`
const LIST = `${COLUMNS} ${ALIVE} AND session.id > ? AND (? IS NULL OR principal = ?) ORDER BY session.id LIMIT ?`
const COUNT = `SELECT count(*) AS count ${ALIVE}`
const COUNT_OF_PRINCIPAL = `SELECT count(*) AS count FROM (SELECT 1 ${ALIVE} AND principal = ? LIMIT ?)`
const TOMBSTONE = 'SELECT 1 FROM mcp_sessions WHERE id = ? AND terminated_until > ?'
const CREATE = `INSERT OR REPLACE INTO mcp_sessions
  (id, principal, state, owner, created_at, last_used_at, ttl, log_id, sweep_at) VALUES (?,?,?,?,?,?,?,?,?)`
const USED = 'UPDATE mcp_sessions SET last_used_at = ? WHERE id = ?'
const DELIVERED = 'UPDATE mcp_sessions SET delivered = ? WHERE id = ?'
const UPDATE = 'UPDATE mcp_sessions SET state = ?, principal = coalesce(?, principal) WHERE id = ?'
// What it was is nobody's business any more.
const TERMINATE = `UPDATE mcp_sessions SET terminated_until = ?, sweep_at = ?, principal = NULL, state = '', owner = NULL
  WHERE id = ?`
const DUE = `SELECT session.id, CASE WHEN terminated_until IS NOT NULL THEN terminated_until ELSE log.expires_at END AS until
  FROM mcp_sessions AS session LEFT JOIN mcp_logs AS log ON log.id = session.log_id AND log.session_id = session.id
  WHERE session.sweep_at <= ? LIMIT ?`

/** Sessions touched in one step: the event loop waits for no more. */
const TOUCHES = 500

export class SqliteSessions implements SessionTable {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #log: SqliteLog
  readonly #nodes: SqliteNodes

  constructor(db: SqliteDatabase, clock: Clock, log: SqliteLog, nodes: SqliteNodes) {
    this.#db = db
    this.#clock = clock
    this.#log = log
    this.#nodes = nodes
  }

  create(session: SessionToCreate): Promise<number> {
    const { id, principal, state, owner, ttl, limit } = session
    return this.#db.write((sql) => {
      const now = this.#clock.now()
      if (sql(TOMBSTONE).get(id, now)) {
        throw terminated(id)
      }
      if (this.#find(sql, id)) {
        throw taken(id)
      }
      if (limit !== undefined && principal !== null) {
        const { count } = sql(COUNT_OF_PRINCIPAL).get(now, principal, limit) as { count: number }
        if (count >= limit) throw tooMany(limit)
      }
      const generation = nextGeneration(0)
      const logId = this.#log.begin(sql, id, generation, now + ttl)
      sql(CREATE).run(id, principal, JSON.stringify(state), owner, now, now, ttl, logId, now + ttl)
      return generation
    })
  }

  get(id: string): Promise<SessionRecord | undefined> {
    return this.#db.read((sql) => {
      const row = this.#find(sql, id)
      return row && this.#record(sql, row)
    })
  }

  claim(id: string, { owner, generation, keep }: SessionClaim): Promise<ClaimedSession | undefined> {
    return this.#db.write((sql) => {
      const row = this.#find(sql, id)
      if (row?.generation !== generation) return undefined
      if (row.owner !== null && row.owner !== owner && this.#nodes.alive(sql, row.owner)) return undefined
      const next = keep ? generation : nextGeneration(generation)
      if (!keep) this.#log.fence(sql, id, next)
      sql('UPDATE mcp_sessions SET owner = ? WHERE id = ?').run(owner, id)
      if (row.owner !== null && row.owner !== owner) this.#nodes.bury(sql, row.owner)
      const record = this.#record(sql, { ...row, owner, generation: next })
      return { ...record, last: this.#log.last(sql, id), open: this.#log.open(sql, row.logId) }
    })
  }

  release(id: string, generation: number): Promise<boolean> {
    return this.#db.write((sql) => {
      if (this.#find(sql, id)?.generation !== generation) return false
      sql('UPDATE mcp_sessions SET owner = NULL WHERE id = ?').run(id)
      return true
    })
  }

  update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    return this.#db.write((sql) => {
      if (this.#find(sql, id)?.generation !== generation) return false
      sql(UPDATE).run(JSON.stringify(state), principal ?? null, id)
      return true
    })
  }

  async touch(touches: readonly SessionTouch[]): Promise<readonly string[]> {
    const lost: string[] = []
    for (let i = 0; i < touches.length; i += TOUCHES) {
      const some = touches.slice(i, i + TOUCHES)
      // A node that only asks for its sessions takes no lock from those who write.
      const looks = some.every(({ ttl, delivered }) => ttl === undefined && delivered === undefined)
      const step = (sql: Sql) => some.filter((touch) => this.#touch(sql, touch)).map(({ id }) => id)
      lost.push(...(await (looks ? this.#db.read(step) : this.#db.write(step))))
    }
    return lost
  }

  /** True: its owner is to stop it. */
  #touch(sql: Sql, { id, ttl, delivered, generation }: SessionTouch): boolean {
    const row = this.#find(sql, id)
    if (row && delivered !== undefined && delivered > row.delivered) sql(DELIVERED).run(delivered, id)
    if (row && ttl !== undefined) {
      sql(USED).run(this.#clock.now(), id)
      this.#log.extend(sql, id, ttl)
    }
    return generation !== undefined && row?.generation !== generation
  }

  terminate(id: string): Promise<boolean> {
    return this.#db.write((sql) => {
      const row = this.#find(sql, id)
      if (!row) return false
      const until = this.#clock.now() + row.ttl
      sql(TERMINATE).run(until, until, id)
      this.#log.drop(sql, id)
      return true
    })
  }

  list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    const { cursor = '', limit = 100, principal = null } = query
    return this.#db.read((sql) => {
      const rows = sql(LIST).all(this.#clock.now(), cursor, principal, principal, limit + 1) as Row[]
      const sessions = rows.slice(0, limit).map((row) => this.#record(sql, row))
      return rows.length > limit ? { sessions, next: sessions.at(-1)!.id } : { sessions }
    })
  }

  count(sql: Sql): number {
    return (sql(COUNT).get(this.#clock.now()) as { count: number }).count
  }

  /** Deletes dead records, `limit` at the most; those that were used since are looked at again when they may be dead. */
  sweep(sql: Sql, limit: number, dryRun: boolean): { sessions: number; more: boolean } {
    const now = this.#clock.now()
    const due = sql(DUE).all(now, limit) as { id: string; until: number | null }[]
    const dead = due.filter(({ until }) => until === null || until <= now)
    if (!dryRun) {
      for (const { id, until } of due) {
        if (until === null || until <= now) sql('DELETE FROM mcp_sessions WHERE id = ?').run(id)
        else sql('UPDATE mcp_sessions SET sweep_at = ? WHERE id = ?').run(until, id)
      }
    }
    return { sessions: dead.length, more: due.length === limit }
  }

  #find(sql: Sql, id: string): Row | undefined {
    return sql(GET).get(this.#clock.now(), id) as Row | undefined
  }

  #record(sql: Sql, { logId: _logId, ttl: _ttl, ...row }: Row): SessionRecord {
    const ownerAlive = row.owner !== null && this.#nodes.alive(sql, row.owner)
    return { ...row, state: parseState(row), ownerAlive }
  }
}

export function parseState({ id, state }: Pick<Row, 'id' | 'state'>): SessionState {
  try {
    return JSON.parse(state) as SessionState
  } catch (cause) {
    const way = 'terminate the session, or restore the database'
    throw new PersistError('STORE_CORRUPT', `The record of session ${id} is damaged; ${way}.`, { cause })
  }
}
