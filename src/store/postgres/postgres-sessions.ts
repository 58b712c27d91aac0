import { randomBytes } from 'node:crypto'
import { PersistError } from '../../errors.ts'
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
import type { PostgresAppender } from './postgres-appender.ts'
import { isAlive, type PostgresNodes } from './postgres-nodes.ts'
import { openStreamsOf, toOpenStreams } from './postgres-open-streams.ts'
import { lastOf } from './postgres-read.ts'
import { boundedMs, millis, type PostgresSchema, span } from './postgres-schema.ts'
import { raw, type Sql, sql } from './postgres-sql.ts'
import { decodeText, encodeText, packScalars, packTexts } from './postgres-text.ts'

export interface PostgresSessionsOptions {
  readonly schema: PostgresSchema
  readonly nodes: PostgresNodes
  readonly appender: PostgresAppender
  /** Runs while nothing is appended to this session from here, and none of its appends is under way. */
  readonly whileQuiet: <T>(sessionId: string, work: () => Promise<T>) => Promise<T>
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

interface ClaimedLog {
  epoch: string
  log_id: string
  open: string
  raced: boolean
  last: string
  kept: string
}

/** Of a session that changes hands while it is claimed: each look may find another appender. */
const MAX_ATTEMPTS = 5
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
  readonly #appender: PostgresAppender
  readonly #whileQuiet: PostgresSessionsOptions['whileQuiet']
  readonly #opened: () => Promise<void>

  constructor({ schema, nodes, appender, whileQuiet, opened }: PostgresSessionsOptions) {
    this.#schema = schema
    this.#nodes = nodes
    this.#appender = appender
    this.#whileQuiet = whileQuiet
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
    // So long that the first appends need not write the log's row.
    const later = sql`now() + 1.1 * ${span(session.ttl)}`
    // Others see the record at once, and it need not be on the disk: whatever is stored in the session later takes it there,
    // for what is written first is flushed first. A server that crashes before loses a session in which nothing was said.
    // The record goes first: of two that race for an id the second waits here. What it overwrites is the very record
    // (told by its epoch) that was seen dead when the statement began, never the one the first has just made.
    const appender = await this.#appender.id()
    const made = await this.#schema.rows<{ log_id: string }>(sql`
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
      ),
      over AS (
        DELETE FROM ${this.#events} AS event USING made JOIN ${this.#logs} AS log ON log.session_id = made.id
        WHERE event.log_id = log.log_id
      )
      INSERT INTO ${this.#logs} (session_id, epoch, generation, appender, kept, expires_at, sweep_at)
      SELECT id, epoch, generation, ${appender}::uuid, 0, ${later}, ${later} FROM made
      ON CONFLICT (session_id) DO UPDATE SET
        log_id = excluded.log_id, epoch = excluded.epoch, generation = excluded.generation, appender = excluded.appender,
        base = 0, kept = 0, floor = 0,
        expires_at = excluded.expires_at, sweep_at = excluded.sweep_at
      RETURNING log_id, set_config('synchronous_commit', 'off', true)`)
    const [log] = made
    if (log) {
      this.#appender.remember(session.id, {
        appender,
        logId: log.log_id,
        epoch,
        generation,
        last: 0,
        kept: 0,
      })
      return generation
    }
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
    this.#appender.forget(id)
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const record = await this.#claim(id, claim)
      if (record || !(await this.#makeWay(id, claim))) return record
    }
    throw contended(id)
  }

  async release(id: string, generation: number): Promise<boolean> {
    await this.#opened()
    // Who claims it then need not fence anybody: the log's row says where it ends.
    return this.#whileQuiet(id, async () => {
      const found = this.#appender.find({ sessionId: id, generation })
      const log = found && this.#appender.isCurrent(found) ? found : undefined
      this.#appender.forget(id)
      const rows = await this.#schema.rows(
        sql`
        WITH released AS (${this.#changed(id, generation, sql`owner = NULL`)}),
        counted AS (
          UPDATE ${this.#logs} AS log SET
            appender = NULL, base = greatest(base, ${log?.last ?? 0}::bigint), kept = ${log?.kept ?? null}::bigint
          FROM released WHERE log.session_id = released.id AND log.appender = ${log?.appender ?? null}::uuid
        )
        SELECT FROM released`,
        REPEATABLE,
      )
      return rows.length > 0
    })
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
    return this.#whileQuiet(id, async () => {
      this.#appender.forget(id)
      return this.#terminate(id)
    })
  }

  /**
   * An append of the owner's may be under way when another process says this. What it leaves in a log that is no more goes
   * with the tombstone.
   */
  async #terminate(id: string): Promise<boolean> {
    const ended = await this.#schema.rows(sql`
      WITH ended AS (
        UPDATE ${this.#sessions} AS record SET
          tombstone_until = now() + ttl * interval '1 millisecond', log_id = log.log_id
        FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND tombstone_until IS NULL
          AND ${same('log', 'record')} AND log.expires_at > now()
        RETURNING log.session_id
      ), gone AS (
        DELETE FROM ${this.#logs} AS log USING ended WHERE log.session_id = ended.session_id RETURNING log.log_id
      ), events AS (
        DELETE FROM ${this.#events} AS event USING gone WHERE event.log_id = gone.log_id
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

  get #events() {
    return this.#schema.table('mcp_events')
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
   * The row locks make claims queue; whoever comes second finds another generation. Positions go on from the time in
   * microseconds: a failover may have lost the last ones that were given out.
   *
   * Who appends to the log from memory must be gone, as of the moment that is looked at here: then all that it has stored is
   * seen, and no more will come. Once its row is locked the log must still be as it was seen, but for appends that count in
   * it: their locks were ahead of ours.
   */
  async #claim(
    id: string,
    { owner, generation, keep = false }: SessionClaim,
  ): Promise<ClaimedSession | undefined> {
    const nodes = this.#schema.table('mcp_nodes')
    const next = keep ? generation : nextGeneration(generation)
    const appender = await this.#appender.id()
    const rows = await this.#schema.rows<Row & ClaimedLog>(sql`
      WITH seen AS MATERIALIZED (
        SELECT record.id, log.log_id, log.base, log.appender, ${raw(lastOf(this.#schema.quoted('mcp_events')))} AS last
        FROM ${this.#sessions} AS record JOIN ${this.#logs} AS log ON ${same('log', 'record')}
        WHERE record.id = ${encodeText(id)} AND NOT ${this.#isAppendedTo()}
      ), record AS MATERIALIZED (
        SELECT record.id FROM ${this.#sessions} AS record JOIN seen USING (id)
        WHERE ${this.#isToBeHad(owner, generation)} FOR NO KEY UPDATE OF record
      ), log AS MATERIALIZED (
        SELECT seen.*, log.base <> seen.base AS raced FROM ${this.#logs} AS log JOIN record ON record.id = log.session_id JOIN seen USING (id)
        WHERE log.log_id = seen.log_id AND log.appender IS NOT DISTINCT FROM seen.appender AND log.expires_at > now()
        FOR NO KEY UPDATE OF log
      ), claimed AS (
        UPDATE ${this.#sessions} AS record SET owner = ${encodeText(owner)}, generation = ${next}
        FROM log WHERE record.id = log.id
        RETURNING record.id, record.epoch, principal, state, owner, record.generation, delivered, created_at, last_used_at
      ), fenced AS (
        UPDATE ${this.#logs} AS log SET
          generation = ${next}, appender = ${appender}::uuid,
          kept = CASE WHEN log.appender IS NULL THEN kept END,
          base = greatest(log.base, seen.last, CASE WHEN ${keep} THEN 0 ELSE (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END)
        FROM log AS seen WHERE log.session_id = seen.id
        RETURNING log.session_id, log.log_id, log.expires_at, log.base AS last, coalesce(log.kept, log.base - log.floor) AS kept, seen.raced
      )
      SELECT claimed.id, claimed.epoch, principal, state, owner, generation, delivered, ${raw(isAlive('node'))} AS owner_alive,
        ${millis('created_at')} AS created_at, ${millis('last_used_at')} AS last_used_at, ${millis('fenced.expires_at')} AS expires_at,
        log_id, ${openStreamsOf(this.#schema, 'claimed.id', 'fenced.log_id')} AS open, raced, last, kept
      FROM claimed JOIN fenced ON fenced.session_id = claimed.id LEFT JOIN ${nodes} AS node ON node.id = claimed.owner`)
    const [row] = rows
    if (!row) return undefined
    const { log_id: logId, epoch } = row
    const last = Number(row.last)
    this.#appender.remember(id, { appender, logId, epoch, generation: next, last, kept: Number(row.kept) })
    // An append of the owner before was under way when we looked, and ahead of us in the line for the log's row.
    const open = row.raced ? await this.#open(id, logId) : toOpenStreams(row.open)
    return { ...toRecord(row), last, open }
  }

  /** SQL for "somebody appends to it from memory". */
  #isAppendedTo(): Sql {
    return sql`EXISTS (SELECT FROM ${this.#schema.table('mcp_appenders')} AS appender WHERE appender.appender_id = log.appender)`
  }

  /** SQL for "the session is in this generation, and nobody has it whose lease runs", or only `owner`. */
  #isToBeHad(owner: string, generation: number): Sql {
    return sql`record.generation = ${generation} AND tombstone_until IS NULL
      AND (record.owner IS NULL OR record.owner = ${encodeText(owner)} OR NOT EXISTS (
        SELECT 1 FROM ${this.#schema.table('mcp_nodes')} AS node
        WHERE node.id = record.owner AND node.lease_until > clock_timestamp()))`
  }

  async #open(id: string, logId: string): Promise<readonly OpenStream[]> {
    const [row] = await this.#schema.rows<{ open: string }>(
      sql`SELECT ${openStreamsOf(this.#schema, 'asked.id', 'asked.log_id')} AS open
        FROM (SELECT ${encodeText(id)}::text COLLATE "C" AS id, ${logId}::bigint AS log_id) AS asked`,
      REPEATABLE,
    )
    return toOpenStreams(row!.open)
  }

  /**
   * Why could it not be claimed? True: the way is free now. An owner whose lease runs, and whose connection seems to be gone, is
   * looked at again. Who appended from memory is fenced, once for all its sessions.
   */
  async #makeWay(id: string, { owner, generation }: SessionClaim): Promise<boolean> {
    const [row] = await this.#schema.rows<{
      owner: string
      appender: string
      to_be_had: boolean
      silent: boolean
    }>(
      sql`SELECT record.owner, ${this.#isToBeHad(owner, generation)} AS to_be_had,
          CASE WHEN ${this.#isAppendedTo()} THEN log.appender END AS appender,
          node.lease_until > clock_timestamp() AND NOT ${raw(isAlive('node'))} AS silent
        FROM ${this.#sessions} AS record JOIN ${this.#logs} AS log ON ${same('log', 'record')}
        LEFT JOIN ${this.#schema.table('mcp_nodes')} AS node ON node.id = record.owner
        WHERE record.id = ${encodeText(id)} AND record.generation = ${generation} AND tombstone_until IS NULL AND log.expires_at > now()`,
      REPEATABLE,
    )
    if (!row) return false
    if (!row.to_be_had) {
      const silent = row.silent && (await this.#nodes.isDead(decodeText(row.owner) ?? row.owner))
      if (!silent) return false
    }
    if (row.appender !== null) await this.#appender.fence(row.appender)
    return true
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
    const rows = await this.#schema.rows(this.#changed(id, generation, change), REPEATABLE)
    return rows.length > 0
  }

  #changed(id: string, generation: number, change: Sql): Sql {
    return sql`UPDATE ${this.#sessions} AS record SET ${change} FROM ${this.#logs} AS log
        WHERE record.id = ${encodeText(id)} AND record.generation = ${generation} AND tombstone_until IS NULL
          AND ${same('log', 'record')} AND log.expires_at > now()
        RETURNING record.id`
  }
}

function contended(id: string): PersistError {
  const facts = `Session ${id} was to be claimed while others appended to it`
  return new PersistError('STORE_UNAVAILABLE', `${facts}; try again.`)
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
