import { randomBytes } from 'node:crypto'
import type { RawBuilder } from 'kysely'
import { delay } from '../../clock.ts'
import { taken, terminated, tooMany } from '../shared/refusals.ts'
import type {
  SessionClaim,
  SessionPage,
  SessionRecord,
  SessionState,
  SessionTable,
  SessionToCreate,
  SessionTouch,
} from '../store.ts'
import { sql } from './postgres-kysely.ts'
import { isAlive, LOCK_GRACE } from './postgres-nodes.ts'
import { boundedMs, millis, type PostgresSchema, span } from './postgres-schema.ts'
import { decodeText, encodeText, packScalars, packTexts } from './postgres-text.ts'

export interface PostgresSessionsOptions {
  readonly schema: PostgresSchema
  /** Rejects once the store is closed, and where the schema is missing. */
  readonly opened: () => Promise<void>
}

interface Row {
  id: string
  principal: string | null
  state: string
  owner: string | null
  owner_alive: boolean | null
  generation: string
  delivered: string
  created_at: number
  last_used_at: number
  expires_at: number
}

/**
 * A record lives as long as the log with its id and epoch. Locks are taken in one order everywhere, rows of sessions
 * before rows of logs and each kind by id, so that no two statements wait for each other in a circle.
 */
export class PostgresSessions implements SessionTable {
  readonly #schema: PostgresSchema
  readonly #opened: () => Promise<void>

  constructor({ schema, opened }: PostgresSessionsOptions) {
    this.#schema = schema
    this.#opened = opened
  }

  async create(session: SessionToCreate): Promise<void> {
    await this.#opened()
    const id = encodeText(session.id)
    const epoch = randomBytes(4).toString('hex')
    const principal = session.principal === null ? null : encodeText(session.principal)
    const limit = principal === null ? undefined : session.limit
    const hasRoom = limit === undefined ? sql`true` : sql`(${this.#countOf(principal!, limit)}) < ${limit}`
    // The record goes first: of two that race for an id the second waits here. What it overwrites is the very record
    // (told by its epoch) that was seen dead when the statement began, never the one the first has just made.
    const made = await this.#schema.raw(sql`
      WITH dead AS (${this.#dead(sql`record.id = ${id}`)}),
      made AS (
        INSERT INTO ${this.#sessions} AS record (id, epoch, principal, state, owner, generation, ttl)
        SELECT ${id}::text, ${epoch}::text, ${principal}::text, ${JSON.stringify(session.state)}::text,
          ${encodeText(session.owner)}::text, 1, ${boundedMs(session.ttl)}::float8
        WHERE ${hasRoom}
        ON CONFLICT (id) DO UPDATE SET
          epoch = excluded.epoch, principal = excluded.principal, state = excluded.state, owner = excluded.owner,
          generation = 1, delivered = 0, ttl = excluded.ttl, created_at = now(), last_used_at = now(), tombstone_until = NULL
        WHERE record.epoch = (SELECT epoch FROM dead)
        RETURNING id, epoch
      )
      INSERT INTO ${this.#logs} (session_id, epoch, generation, expires_at)
      SELECT id, epoch, 1, now() + ${span(session.ttl)} FROM made
      ON CONFLICT (session_id) DO UPDATE SET
        log_id = excluded.log_id, epoch = excluded.epoch, generation = 1, last = 0, floor = 0,
        events_expire_at = excluded.events_expire_at, expires_at = excluded.expires_at
      RETURNING session_id`)
    if (made.length > 0) return
    const [known] = await this.#schema.raw<{ terminated: boolean }>(
      sql`
      SELECT tombstone_until IS NOT NULL AS terminated FROM ${this.#sessions} AS record
      WHERE record.id = ${id} AND record.epoch NOT IN (SELECT epoch FROM (${this.#dead(sql`record.id = ${id}`)}) AS dead)`,
      { repeatable: true },
    )
    if (known?.terminated) {
      throw terminated(session.id)
    }
    if (!known && limit !== undefined) {
      throw tooMany(limit)
    }
    throw taken(session.id)
  }

  async get(id: string): Promise<SessionRecord | undefined> {
    await this.#opened()
    const rows = await this.#schema.run<Row>(this.#live().where('record.id', '=', encodeText(id)), {
      repeatable: true,
    })
    return rows[0] && toRecord(rows[0])
  }

  async claim(id: string, claim: SessionClaim): Promise<SessionRecord | undefined> {
    await this.#opened()
    const record = await this.#claim(id, claim)
    if (record) return record
    // The owner's lease runs, but its connection seems to be gone. It may only have been cut: a living node is back
    // well within the grace. So look again, and take nothing from an owner that was back or has renewed meanwhile.
    const lease = await this.#suspectLease(id, claim)
    if (lease === undefined) return undefined
    await delay(LOCK_GRACE)
    return this.#claim(id, claim, lease)
  }

  async release(id: string, generation: number): Promise<boolean> {
    await this.#opened()
    return this.#change(id, generation, { owner: null })
  }

  async update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    await this.#opened()
    const whose = principal === undefined ? {} : { principal: encodeText(principal) }
    return this.#change(id, generation, { state: JSON.stringify(state), ...whose })
  }

  async touch(touches: readonly SessionTouch[]): Promise<void> {
    await this.#opened()
    const merged = new Map<string, { ttl: number; delivered: number }>()
    for (const { id, ttl, delivered = 0 } of touches) {
      const before = merged.get(id)
      merged.set(id, {
        ttl: Math.max(boundedMs(ttl), before?.ttl ?? 0),
        delivered: Math.max(delivered, before?.delivered ?? 0),
      })
    }
    if (merged.size === 0) return
    const values = [...merged.values()]
    const ids = sql`(string_to_array(${packTexts([...merged.keys()])}::text, E'\\x1e'))[2:]`
    await this.#schema.raw(
      sql`
      WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(${ids}, ${packScalars(values.map(({ ttl }) => ttl))}::float8[],
          ${packScalars(values.map(({ delivered }) => delivered))}::bigint[]) AS asked (id, ttl, delivered)
      ), records AS MATERIALIZED (
        SELECT id, epoch FROM ${this.#sessions}
        WHERE id IN (SELECT id FROM asked) AND tombstone_until IS NULL ORDER BY id FOR NO KEY UPDATE
      ), logs AS MATERIALIZED (
        SELECT records.id FROM ${this.#logs} AS log JOIN records ON ${this.#same('log', 'records')}
        WHERE log.expires_at > now() ORDER BY log.session_id FOR NO KEY UPDATE OF log
      ), used AS (
        UPDATE ${this.#sessions} AS record
        SET last_used_at = now(), delivered = greatest(record.delivered, asked.delivered)
        FROM logs JOIN asked USING (id) WHERE record.id = logs.id
      )
      UPDATE ${this.#logs} AS log SET expires_at = greatest(log.expires_at, now() + asked.ttl * interval '1 millisecond')
      FROM logs JOIN asked USING (id) WHERE log.session_id = logs.id`,
      { repeatable: true },
    )
  }

  async terminate(id: string): Promise<boolean> {
    await this.#opened()
    const ended = await this.#schema.raw(sql`
      WITH ended AS (
        UPDATE ${this.#sessions} AS record SET tombstone_until = now() + ttl * interval '1 millisecond'
        FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND tombstone_until IS NULL
          AND ${this.#same('log', 'record')} AND log.expires_at > now()
        RETURNING log.session_id
      ), gone AS (
        DELETE FROM ${this.#logs} AS log USING ended WHERE log.session_id = ended.session_id RETURNING log.log_id
      ), events AS (
        DELETE FROM ${this.#schema.table('mcp_events')} AS event USING gone WHERE event.log_id = gone.log_id
      )
      SELECT session_id FROM ended`)
    return ended.length > 0
  }

  async list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    await this.#opened()
    const { cursor, limit = 100, principal } = query
    let select = this.#live()
      .orderBy('record.id')
      .limit(limit + 1)
    if (cursor !== undefined) select = select.where('record.id', '>', encodeText(cursor))
    if (principal !== undefined) select = select.where('record.principal', '=', encodeText(principal))
    const rows = await this.#schema.run<Row>(select, { repeatable: true })
    const sessions = rows.slice(0, limit).map(toRecord)
    return rows.length > limit ? { sessions, next: sessions.at(-1)!.id } : { sessions }
  }

  /** Removes the records of these ids whose logs are over: nothing would find them once other logs are there. */
  async forgetDead(ids: readonly string[]): Promise<void> {
    const packed = sql`(string_to_array(${packTexts(ids)}::text, E'\\x1e'))[2:]`
    await this.#schema.raw(
      sql`
      WITH dead AS (${this.#dead(sql`record.id = ANY (${packed}) AND tombstone_until IS NULL`)})
      DELETE FROM ${this.#sessions} AS record USING dead WHERE record.id = dead.id AND record.epoch = dead.epoch`,
      { repeatable: true },
    )
  }

  get #sessions() {
    return this.#schema.table('mcp_sessions')
  }

  get #logs() {
    return this.#schema.table('mcp_logs')
  }

  /** Up to `most` of a principal's sessions that live. */
  #countOf(principal: string, most: number): RawBuilder<unknown> {
    return sql`SELECT count(*) FROM (
      SELECT 1 FROM ${this.#sessions} AS held JOIN ${this.#logs} AS log ON ${this.#same('log', 'held')}
      WHERE held.principal = ${principal} AND held.tombstone_until IS NULL AND log.expires_at > now() LIMIT ${most}) AS held`
  }

  #same(log: string, record: string): RawBuilder<unknown> {
    const column = (table: string, name: string) => sql.ref(`${table}.${name}`)
    return sql`${column(log, 'session_id')} = ${column(record, 'id')} AND ${column(log, 'epoch')} = ${column(record, 'epoch')}`
  }

  #dead(which: RawBuilder<unknown>): RawBuilder<unknown> {
    return sql`SELECT record.id, record.epoch FROM ${this.#sessions} AS record
      LEFT JOIN ${this.#logs} AS log ON ${this.#same('log', 'record')}
      WHERE ${which} AND CASE WHEN tombstone_until IS NULL THEN coalesce(log.expires_at <= now(), true)
        ELSE tombstone_until <= now() END`
  }

  #live() {
    return this.#schema.db
      .selectFrom('mcp_sessions as record')
      .innerJoin('mcp_logs as log', (join) =>
        join.onRef('log.session_id', '=', 'record.id').onRef('log.epoch', '=', 'record.epoch'),
      )
      .leftJoin('mcp_nodes as node', 'node.id', 'record.owner')
      .where('record.tombstone_until', 'is', null)
      .where(sql<boolean>`log.expires_at > now()`)
      .select(['record.id', 'record.principal', 'record.state', 'record.owner'])
      .select(['record.generation', 'record.delivered', isAlive('node').as('owner_alive')])
      .select([
        millis('record.created_at').as('created_at'),
        millis('record.last_used_at').as('last_used_at'),
      ])
      .select(millis('log.expires_at').as('expires_at'))
  }

  /** `suspect`: the lease, in microseconds since 1970, of an owner whose lock was free a while ago. */
  async #claim(id: string, { owner, generation, keep }: SessionClaim, suspect?: string) {
    const nodes = this.#schema.table('mcp_nodes')
    const dead =
      suspect === undefined
        ? sql`false`
        : sql`(${leaseOf('node')} = ${suspect}::bigint AND NOT ${isAlive('node')})`
    // The row lock makes claims queue; whoever comes second finds another generation.
    const rows = await this.#schema.raw<Row>(sql`
      WITH claimed AS (
        UPDATE ${this.#sessions} AS record SET owner = ${encodeText(owner)}, generation = record.generation + ${keep ? 0 : 1}
        FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND record.generation = ${generation} AND tombstone_until IS NULL
          AND ${this.#same('log', 'record')} AND log.expires_at > now()
          AND (record.owner IS NULL OR record.owner = ${encodeText(owner)} OR NOT EXISTS (
            SELECT 1 FROM ${nodes} AS node
            WHERE node.id = record.owner AND node.lease_until > clock_timestamp() AND NOT ${dead}))
        RETURNING record.*, log.expires_at
      ), fenced AS (
        UPDATE ${this.#logs} AS log SET generation = claimed.generation FROM claimed WHERE log.session_id = claimed.id
      )
      SELECT claimed.id, principal, state, owner, generation, delivered, ${isAlive('node')} AS owner_alive,
        ${millis('created_at')} AS created_at, ${millis('last_used_at')} AS last_used_at, ${millis('expires_at')} AS expires_at
      FROM claimed LEFT JOIN ${nodes} AS node ON node.id = claimed.owner`)
    return rows[0] && toRecord(rows[0])
  }

  async #suspectLease(id: string, claim: SessionClaim): Promise<string | undefined> {
    const select = this.#schema.db
      .selectFrom('mcp_sessions as record')
      .innerJoin('mcp_nodes as node', 'node.id', 'record.owner')
      .where('record.id', '=', encodeText(id))
      .where('record.generation', '=', claim.generation)
      .where('record.owner', '<>', encodeText(claim.owner))
      .where(sql<boolean>`node.lease_until > clock_timestamp() AND NOT ${isAlive('node')}`)
      .select(leaseOf('node').as('lease'))
    const [row] = await this.#schema.run<{ lease: string | number }>(select, { repeatable: true })
    return row && String(row.lease)
  }

  async #change(
    id: string,
    generation: number,
    set: { owner: null } | { state: string; principal?: string },
  ): Promise<boolean> {
    const rows = await this.#schema.run(
      this.#schema.db
        .updateTable('mcp_sessions as record')
        .set(set)
        .from('mcp_logs as log')
        .where('record.id', '=', encodeText(id))
        .where('record.generation', '=', generation)
        .where('record.tombstone_until', 'is', null)
        .whereRef('log.session_id', '=', 'record.id')
        .whereRef('log.epoch', '=', 'record.epoch')
        .where(sql<boolean>`log.expires_at > now()`)
        .returning('record.id'),
      { repeatable: true },
    )
    return rows.length > 0
  }
}

function leaseOf(node: string) {
  return sql<string | number>`(extract(epoch from ${sql.ref(`${node}.lease_until`)}) * 1000000)::bigint`
}

function toRecord(row: Row): SessionRecord {
  return {
    id: decodeText(row.id) ?? row.id,
    principal: row.principal === null ? null : (decodeText(row.principal) ?? row.principal),
    state: JSON.parse(row.state) as SessionState,
    owner: row.owner === null ? null : (decodeText(row.owner) ?? row.owner),
    ownerAlive: row.owner_alive ?? false,
    generation: Number(row.generation),
    delivered: Number(row.delivered),
    createdAt: Number(row.created_at),
    lastUsedAt: Number(row.last_used_at),
    expiresAt: Number(row.expires_at),
  }
}
