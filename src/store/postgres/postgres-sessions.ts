import { randomBytes } from 'node:crypto'
import { nextGeneration } from '../common/generation.ts'
import { taken, terminated, tooMany } from '../common/refusals.ts'
import type {
  ClaimedSession,
  OpenStream,
  SessionClaim,
  SessionPage,
  SessionRecord,
  SessionState,
  SessionTable,
  SessionToCreate,
  SessionTouch,
} from '../port.ts'
import { isAlive, type PostgresNodes } from './postgres-nodes.ts'
import { openStreamsOf, toOpenStreams } from './postgres-open-streams.ts'
import { boundedMs, millis, type PostgresSchema, span } from './postgres-schema.ts'
import { raw, type Sql, sql } from './postgres-sql.ts'
import { decodeText, encodeText, packScalars, packTexts } from './postgres-text.ts'

export interface PostgresSessionsOptions {
  readonly schema: PostgresSchema
  readonly nodes: PostgresNodes
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

/** Sessions in one statement of `touch`. */
const TOUCHED_AT_ONCE = 2_000

const REPEATABLE = { repeatable: true }
/** A look at which sessions are still ours keeps them alive as a renewal does. */
const TOUCHING = { repeatable: true, urgent: true }

/**
 * A record lives as long as the log with its id and epoch. Locks are taken in one order everywhere, rows of sessions
 * before rows of logs and each kind by id, so that no two statements wait for each other in a circle.
 */
export class PostgresSessions implements SessionTable {
  readonly #schema: PostgresSchema
  readonly #nodes: PostgresNodes
  readonly #opened: () => Promise<void>

  constructor({ schema, nodes, opened }: PostgresSessionsOptions) {
    this.#schema = schema
    this.#nodes = nodes
    this.#opened = opened
  }

  async create(session: SessionToCreate): Promise<number> {
    await this.#opened()
    const id = encodeText(session.id)
    const epoch = randomBytes(4).toString('hex')
    const generation = nextGeneration(0)
    const principal = session.principal === null ? null : encodeText(session.principal)
    const limit = principal === null ? undefined : session.limit
    const hasRoom = limit === undefined ? sql`true` : sql`(${this.#countOf(principal!, limit)}) < ${limit}`
    // The record goes first: of two that race for an id the second waits here. What it overwrites is the very record
    // (told by its epoch) that was seen dead when the statement began, never the one the first has just made.
    const made = await this.#schema.rows(sql`
      WITH dead AS (${this.#dead(sql`record.id = ${id}`)}),
      made AS (
        INSERT INTO ${this.#sessions} AS record (id, epoch, principal, state, owner, generation, ttl)
        SELECT ${id}::text, ${epoch}::text, ${principal}::text, ${JSON.stringify(session.state)}::text,
          ${encodeText(session.owner)}::text, ${generation}::bigint, ${boundedMs(session.ttl)}::float8
        WHERE ${hasRoom}
        ON CONFLICT (id) DO UPDATE SET
          epoch = excluded.epoch, principal = excluded.principal, state = excluded.state, owner = excluded.owner,
          generation = excluded.generation, delivered = 0, ttl = excluded.ttl, created_at = now(), last_used_at = now(), tombstone_until = NULL
        WHERE record.epoch = (SELECT epoch FROM dead)
        RETURNING id, epoch, generation
      )
      INSERT INTO ${this.#logs} (session_id, epoch, generation, expires_at)
      SELECT id, epoch, generation, now() + ${span(session.ttl)} FROM made
      ON CONFLICT (session_id) DO UPDATE SET
        log_id = excluded.log_id, epoch = excluded.epoch, generation = excluded.generation, last = 0, kept = NULL, floor = 0,
        events_expire_at = excluded.events_expire_at, expires_at = excluded.expires_at
      RETURNING session_id`)
    if (made.length > 0) return generation
    const [known] = await this.#schema.rows<{ terminated: boolean }>(
      sql`
      SELECT tombstone_until IS NOT NULL AS terminated FROM ${this.#sessions} AS record
      WHERE record.id = ${id} AND record.epoch NOT IN (SELECT epoch FROM (${this.#dead(sql`record.id = ${id}`)}) AS dead)`,
      REPEATABLE,
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
    const [row] = await this.#schema.rows<Row>(
      sql`${this.#live()} AND record.id = ${encodeText(id)}`,
      REPEATABLE,
    )
    return row && toRecord(row)
  }

  async claim(id: string, claim: SessionClaim): Promise<ClaimedSession | undefined> {
    await this.#opened()
    const record = await this.#claim(id, claim)
    if (record) return record
    // The owner's lease runs, but its connection seems to be gone.
    const owner = await this.#silentOwner(id, claim)
    if (owner === undefined || !(await this.#nodes.isDead(owner))) return undefined
    return this.#claim(id, claim)
  }

  async release(id: string, generation: number): Promise<boolean> {
    await this.#opened()
    return this.#change(id, generation, sql`owner = NULL`)
  }

  async update(id: string, generation: number, state: SessionState, principal?: string): Promise<boolean> {
    await this.#opened()
    const whose = principal === undefined ? sql`` : sql`, principal = ${encodeText(principal)}`
    return this.#change(id, generation, sql`state = ${JSON.stringify(state)}${whose}`)
  }

  async touch(touches: readonly SessionTouch[]): Promise<readonly string[]> {
    await this.#opened()
    const lost: string[] = []
    for (let i = 0; i < touches.length; i += TOUCHED_AT_ONCE) {
      lost.push(...(await this.#touch(touches.slice(i, i + TOUCHED_AT_ONCE))))
    }
    return lost
  }

  async terminate(id: string): Promise<boolean> {
    await this.#opened()
    const ended = await this.#schema.rows(sql`
      WITH ended AS (
        UPDATE ${this.#sessions} AS record SET tombstone_until = now() + ttl * interval '1 millisecond'
        FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND tombstone_until IS NULL
          AND ${same('log', 'record')} AND log.expires_at > now()
        RETURNING log.session_id
      ), gone AS (
        DELETE FROM ${this.#logs} AS log USING ended WHERE log.session_id = ended.session_id RETURNING log.log_id
      ), events AS (
        DELETE FROM ${this.#schema.table('mcp_events')} AS event USING gone WHERE event.log_id = gone.log_id
      ), closed AS (
        DELETE FROM ${this.#openStreams} AS open USING ended WHERE open.session_id = ended.session_id
      )
      SELECT session_id FROM ended`)
    return ended.length > 0
  }

  async list(query: { cursor?: string; limit?: number; principal?: string } = {}): Promise<SessionPage> {
    await this.#opened()
    const { cursor, limit = 100, principal } = query
    const after = cursor === undefined ? sql`` : sql` AND record.id > ${encodeText(cursor)}`
    const theirs = principal === undefined ? sql`` : sql` AND record.principal = ${encodeText(principal)}`
    const rows = await this.#schema.rows<Row>(
      sql`${this.#live()}${after}${theirs} ORDER BY record.id LIMIT ${limit + 1}::bigint`,
      REPEATABLE,
    )
    const sessions = rows.slice(0, limit).map(toRecord)
    return rows.length > limit ? { sessions, next: sessions.at(-1)!.id } : { sessions }
  }

  /** Removes the records of these ids whose logs are over: nothing would find them once other logs are there. */
  async forgetDead(ids: readonly string[]): Promise<void> {
    await this.#schema.rows(
      sql`
      WITH dead AS (${this.#dead(sql`record.id = ANY (${texts(ids)}) AND tombstone_until IS NULL`)})
      DELETE FROM ${this.#sessions} AS record USING dead WHERE record.id = dead.id AND record.epoch = dead.epoch`,
      { repeatable: true, urgent: true },
    )
  }

  get #sessions() {
    return this.#schema.table('mcp_sessions')
  }

  get #logs() {
    return this.#schema.table('mcp_logs')
  }

  get #openStreams() {
    return this.#schema.table('mcp_open_streams')
  }

  /** Up to `most` of a principal's sessions that live. */
  #countOf(principal: string, most: number): Sql {
    return sql`SELECT count(*) FROM (
      SELECT 1 FROM ${this.#sessions} AS held JOIN ${this.#logs} AS log ON ${same('log', 'held')}
      WHERE held.principal = ${principal} AND held.tombstone_until IS NULL AND log.expires_at > now() LIMIT ${most}) AS held`
  }

  #dead(which: Sql): Sql {
    return sql`SELECT record.id, record.epoch FROM ${this.#sessions} AS record
      LEFT JOIN ${this.#logs} AS log ON ${same('log', 'record')}
      WHERE ${which} AND CASE WHEN tombstone_until IS NULL THEN coalesce(log.expires_at <= now(), true)
        ELSE tombstone_until <= now() END`
  }

  /** Ends in a condition: more may follow with AND. */
  #live(): Sql {
    return sql`SELECT record.id, principal, state, owner, record.generation, delivered, ${raw(isAlive('node'))} AS owner_alive,
        ${millis('created_at')} AS created_at, ${millis('last_used_at')} AS last_used_at, ${millis('log.expires_at')} AS expires_at
      FROM ${this.#sessions} AS record JOIN ${this.#logs} AS log ON ${same('log', 'record')}
      LEFT JOIN ${this.#schema.table('mcp_nodes')} AS node ON node.id = record.owner
      WHERE tombstone_until IS NULL AND log.expires_at > now()`
  }

  /**
   * The row lock makes claims queue; whoever comes second finds another generation. Positions go on from the time in
   * microseconds: a failover may have lost the last ones that were given out.
   */
  async #claim(
    id: string,
    { owner, generation, keep = false }: SessionClaim,
  ): Promise<ClaimedSession | undefined> {
    const nodes = this.#schema.table('mcp_nodes')
    const next = keep ? generation : nextGeneration(generation)
    const rows = await this.#schema.rows<
      Row & { log_id: string; open: string; raced: boolean; last: string }
    >(sql`
      WITH claimed AS (
        UPDATE ${this.#sessions} AS record SET owner = ${encodeText(owner)}, generation = ${next}
        FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND record.generation = ${generation} AND tombstone_until IS NULL
          AND ${same('log', 'record')} AND log.expires_at > now()
          AND (record.owner IS NULL OR record.owner = ${encodeText(owner)} OR NOT EXISTS (
            SELECT 1 FROM ${nodes} AS node
            WHERE node.id = record.owner AND node.lease_until > clock_timestamp()))
        RETURNING record.id, principal, state, owner, record.generation, delivered, created_at, last_used_at, log.expires_at,
          log.log_id, coalesce(kept, last - floor) AS kept
      ), fenced AS (
        UPDATE ${this.#logs} AS log SET
          generation = claimed.generation,
          kept = coalesce(log.kept, last - floor),
          last = CASE WHEN ${keep} THEN last ELSE greatest(last, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END
        FROM claimed WHERE log.session_id = claimed.id
        RETURNING log.kept, log.last
      )
      SELECT claimed.id, principal, state, owner, generation, delivered, ${raw(isAlive('node'))} AS owner_alive,
        ${millis('created_at')} AS created_at, ${millis('last_used_at')} AS last_used_at, ${millis('expires_at')} AS expires_at,
        log_id, ${openStreamsOf(this.#schema, 'claimed.id', 'claimed.log_id')} AS open, fenced.kept <> claimed.kept AS raced,
        fenced.last
      FROM claimed LEFT JOIN fenced ON true LEFT JOIN ${nodes} AS node ON node.id = claimed.owner`)
    const [row] = rows
    if (!row) return undefined
    // An append of the owner before was under way when we looked, and ahead of us in the line for the log's row.
    const open = row.raced ? await this.#open(id, row.log_id) : toOpenStreams(row.open)
    return { ...toRecord(row), last: Number(row.last), open }
  }

  async #open(id: string, logId: string): Promise<readonly OpenStream[]> {
    const [row] = await this.#schema.rows<{ open: string }>(
      sql`SELECT ${openStreamsOf(this.#schema, 'asked.id', 'asked.log_id')} AS open
        FROM (SELECT ${encodeText(id)}::text COLLATE "C" AS id, ${logId}::bigint AS log_id) AS asked`,
      REPEATABLE,
    )
    return toOpenStreams(row!.open)
  }

  async #silentOwner(id: string, claim: SessionClaim): Promise<string | undefined> {
    const [row] = await this.#schema.rows<{ owner: string }>(
      sql`SELECT record.owner FROM ${this.#sessions} AS record JOIN ${this.#schema.table('mcp_nodes')} AS node ON node.id = record.owner
        WHERE record.id = ${encodeText(id)} AND record.generation = ${claim.generation} AND record.owner <> ${encodeText(claim.owner)}
          AND node.lease_until > clock_timestamp() AND NOT ${raw(isAlive('node'))}`,
      REPEATABLE,
    )
    return row && (decodeText(row.owner) ?? row.owner)
  }

  /** One statement: sessions that are only looked at are neither locked nor written. */
  async #touch(touches: readonly SessionTouch[]): Promise<string[]> {
    const asked = new Map<string, { ttl: number; delivered: number }>()
    for (const { id, ttl = 0, delivered = 0 } of touches) {
      const before = asked.get(id)
      asked.set(id, {
        ttl: Math.max(boundedMs(ttl), before?.ttl ?? 0),
        delivered: Math.max(delivered, before?.delivered ?? 0),
      })
    }
    const values = [...asked.values()]
    const rows = await this.#schema.rows<{ id: string; generation: string }>(
      sql`
      WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(${texts([...asked.keys()])}, ${packScalars(values.map(({ ttl }) => ttl))}::float8[],
          ${packScalars(values.map(({ delivered }) => delivered))}::bigint[]) AS asked (id, ttl, delivered)
      ), records AS MATERIALIZED (
        SELECT id, epoch FROM ${this.#sessions}
        WHERE id IN (SELECT id FROM asked WHERE ttl > 0 OR delivered > 0) AND tombstone_until IS NULL ORDER BY id FOR NO KEY UPDATE
      ), logs AS MATERIALIZED (
        SELECT records.id FROM ${this.#logs} AS log JOIN records ON ${same('log', 'records')}
        WHERE log.expires_at > now() ORDER BY log.session_id FOR NO KEY UPDATE OF log
      ), used AS (
        UPDATE ${this.#sessions} AS record SET
          last_used_at = CASE WHEN asked.ttl > 0 THEN now() ELSE last_used_at END,
          delivered = greatest(record.delivered, asked.delivered)
        FROM logs JOIN asked USING (id) WHERE record.id = logs.id
      ), extended AS (
        UPDATE ${this.#logs} AS log SET expires_at = now() + asked.ttl * interval '1 millisecond'
        FROM logs JOIN asked USING (id)
        WHERE log.session_id = logs.id AND log.expires_at < now() + asked.ttl * interval '1 millisecond'
      )
      SELECT record.id, record.generation FROM asked JOIN ${this.#sessions} AS record USING (id)
      JOIN ${this.#logs} AS log ON ${same('log', 'record')}
      WHERE tombstone_until IS NULL AND log.expires_at > now()`,
      TOUCHING,
    )
    const current = new Map(rows.map(({ id, generation }) => [id, Number(generation)]))
    return touches
      .filter(({ id, generation }) => generation !== undefined && current.get(encodeText(id)) !== generation)
      .map(({ id }) => id)
  }

  async #change(id: string, generation: number, change: Sql): Promise<boolean> {
    const rows = await this.#schema.rows(
      sql`UPDATE ${this.#sessions} AS record SET ${change} FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND record.generation = ${generation} AND tombstone_until IS NULL
          AND ${same('log', 'record')} AND log.expires_at > now()
        RETURNING record.id`,
      REPEATABLE,
    )
    return rows.length > 0
  }
}

function same(log: string, record: string): Sql {
  return raw(`${log}.session_id = ${record}.id AND ${log}.epoch = ${record}.epoch`)
}

/** A `text[]` as one parameter. */
function texts(all: readonly string[]): Sql {
  return sql`(string_to_array(${packTexts(all)}::text, E'\\x1e'))[2:]`
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
