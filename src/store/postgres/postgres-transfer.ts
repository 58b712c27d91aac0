import { PersistError } from '../../errors.ts'
import type { LogPage, SessionState, Tombstone, Transfer } from '../port.ts'
import { KINDS } from './postgres-append.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import type { PostgresPoolClient } from './postgres-driver.ts'
import type { PostgresLog } from './postgres-log.ts'
import { openStreamsOf, toOpenStreams } from './postgres-open-streams.ts'
import { lastOf } from './postgres-read.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { statement } from './postgres-sql.ts'
import { decodeText, encodeText, packScalars, packTexts, unpacked } from './postgres-text.ts'

export interface PostgresTransferOptions {
  readonly connections: PostgresConnections
  readonly schema: PostgresSchema
  readonly log: PostgresLog
  /** Resolves when the store is open: does the schema have session records? */
  readonly hasSessions: () => Promise<boolean>
}

/** As it is under the lock. */
interface LockedLog {
  log_id: string
  epoch: string
  generation: string
  appender: string | null
}

interface Log {
  log_id: string
  epoch: string
  generation: string
  expires_at: number
}

type Session = NonNullable<LogPage['session']>

const MS = (column: string) => `round(extract(epoch from ${column}) * 1000)::float8`
const TIME = (parameter: string) => `to_timestamp(${parameter}::float8 / 1000)`

export class PostgresTransfer implements Transfer {
  readonly #options: PostgresTransferOptions
  readonly #logs: string
  readonly #events: string
  readonly #sessions: string
  readonly #openStreams: string
  readonly #appenders: string

  constructor(options: PostgresTransferOptions) {
    this.#options = options
    this.#logs = options.schema.quoted('mcp_logs')
    this.#events = options.schema.quoted('mcp_events')
    this.#sessions = options.schema.quoted('mcp_sessions')
    this.#appenders = options.schema.quoted('mcp_appenders')
    this.#openStreams = options.schema.quoted('mcp_open_streams')
  }

  async *ids(): AsyncGenerator<string> {
    await this.#options.hasSessions()
    for (let after = ''; ; ) {
      const rows = await this.#query<{ session_id: string }>(
        `SELECT session_id FROM ${this.#logs} WHERE session_id > $1 AND expires_at > now() ORDER BY session_id LIMIT 1000`,
        [after],
      )
      for (const { session_id } of rows) yield decodeText(session_id) ?? session_id
      const last = rows.at(-1)
      if (!last) return
      after = last.session_id
    }
  }

  async take(query: {
    sessionId: string
    after: number
    limit: number
  }): Promise<LogPage | Tombstone | undefined> {
    const { sessionId } = query
    const hasSessions = await this.#options.hasSessions()
    const tombstone = hasSessions ? await this.#tombstone(sessionId) : undefined
    if (tombstone) return tombstone
    const page = await this.#options.log.read(query)
    const [log] = await this.#query<Log>(
      `SELECT log_id, epoch, generation, ${MS('expires_at')} AS expires_at
       FROM ${this.#logs} WHERE session_id = $1 AND expires_at > now()`,
      [encodeText(sessionId)],
    )
    if (!log || log.epoch !== page.epoch) return undefined
    const positions = packScalars(page.events.map(({ position }) => position))
    const rows = await this.#query<{ position: string; expires_at: number }>(
      `SELECT position, ${MS('expires_at')} AS expires_at FROM ${this.#events}
       WHERE log_id = $1 AND position = ANY ($2::bigint[])`,
      [log.log_id, positions],
    )
    const expiries = new Map(rows.map((row) => [Number(row.position), Number(row.expires_at)]))
    const events = page.events
      .filter(({ position }) => expiries.has(position))
      .map((event) => ({ ...event, expiresAt: expiries.get(event.position)! }))
    const { epoch } = log
    const [generation, expiresAt] = [Number(log.generation), Number(log.expires_at)]
    const open = hasSessions ? await this.#open(sessionId, log.log_id) : []
    const session = hasSessions ? await this.#session(sessionId, epoch) : null
    return { ...page, sessionId, epoch, generation, expiresAt, events, open, session }
  }

  async put(page: LogPage | Tombstone): Promise<boolean> {
    const hasSessions = await this.#options.hasSessions()
    const isTombstone = 'terminatedUntil' in page
    if ((isTombstone || page.session) && !hasSessions) {
      throw new PersistError(
        'NOT_MIGRATED',
        `The database has no table for session records; run \`npx mcp-persist migrate\` without --events-only.`,
      )
    }
    return this.#options.connections.use(
      async (client) => {
        await client.query({ text: 'BEGIN' })
        try {
          const done = await (isTombstone ? this.#bury(client, page) : this.#put(client, page, hasSessions))
          await client.query({ text: done ? 'COMMIT' : 'ROLLBACK' })
          return done
        } catch (error) {
          await client.query({ text: 'ROLLBACK' }).catch(() => {})
          throw error
        }
      },
      { repeatable: true },
    )
  }

  /** Rows are locked as everywhere: the session's before its log's. */
  async #put(client: PostgresPoolClient, page: LogPage, hasSessions: boolean): Promise<boolean> {
    const { epoch, generation, floor, session } = page
    const id = encodeText(page.sessionId)
    const run = async (text: string, values: unknown[]) => (await client.query({ text, values })).rows
    if (session) {
      const text = `SELECT tombstone_until > now() AS gone FROM ${this.#sessions} WHERE id = $1 FOR UPDATE`
      const [known] = (await run(text, [id])) as { gone: boolean | null }[]
      if (known?.gone) return false
    }
    // Begins the log where there is none, or none that lives.
    await run(
      `WITH over AS (
         DELETE FROM ${this.#events} AS event USING ${this.#logs} AS log
         WHERE log.session_id = $1 AND log.expires_at <= now() AND event.log_id = log.log_id
       )
       INSERT INTO ${this.#logs} AS log (session_id, epoch, generation, base, floor, expires_at)
       VALUES ($1, $2, $3, $4, $4, ${TIME('$5')})
       ON CONFLICT (session_id) DO UPDATE SET log_id = excluded.log_id, epoch = excluded.epoch,
         generation = excluded.generation, appender = NULL, base = excluded.base, kept = NULL, floor = excluded.floor,
         expires_at = excluded.expires_at
       WHERE log.expires_at <= now()`,
      [id, epoch, generation, floor, page.expiresAt],
    )
    const find = `SELECT log_id, epoch, generation, appender FROM ${this.#logs} WHERE session_id = $1 FOR NO KEY UPDATE`
    const [log] = (await run(find, [id])) as LockedLog[]
    if (log?.epoch !== epoch || Number(log.generation) > generation) return false
    // Whoever appends to it from memory must look again, and must be done before it is known where the log ends.
    if (log.appender !== null)
      await run(`DELETE FROM ${this.#appenders} WHERE appender_id = $1::uuid`, [log.appender])
    const end = `SELECT ${lastOf(this.#events)} AS last FROM ${this.#logs} AS log WHERE session_id = $1`
    const [known] = (await run(end, [id])) as { last: string }[]
    const events = page.events.filter(({ position }) => position > Number(known!.last))
    if (events.length > 0) await this.#putEvents(client, id, log.log_id, events)
    const last = page.more ? (page.events.at(-1)?.position ?? 0) : page.last
    await run(
      `UPDATE ${this.#logs} SET base = greatest(base, $2, $6), appender = NULL, kept = NULL, floor = greatest(floor, $3), generation = $4,
         expires_at = greatest(expires_at, ${TIME('$5')}) WHERE session_id = $1`,
      [id, last, floor, generation, page.expiresAt, known!.last],
    )
    if (hasSessions) await this.#putOpen(client, id, log.log_id, page)
    if (session) await this.#putSession(client, id, page, session)
    return true
  }

  /** Ends the session, whatever has become of it here. */
  async #bury(client: PostgresPoolClient, { sessionId, terminatedUntil }: Tombstone): Promise<true> {
    const id = encodeText(sessionId)
    await client.query({
      text: `
INSERT INTO ${this.#sessions} AS record (id, epoch, state, generation, ttl, tombstone_until)
VALUES ($1, '', '{}', 0, 0, ${TIME('$2')})
ON CONFLICT (id) DO UPDATE SET tombstone_until = greatest(record.tombstone_until, excluded.tombstone_until)`,
      values: [id, terminatedUntil],
    })
    await client.query({
      text: `
WITH gone AS (DELETE FROM ${this.#logs} WHERE session_id = $1 RETURNING log_id),
closed AS (DELETE FROM ${this.#openStreams} WHERE session_id = $1)
DELETE FROM ${this.#events} AS event USING gone WHERE event.log_id = gone.log_id`,
      values: [id],
    })
    return true
  }

  /** Those of the latest page, and no others. Positions that no event has, in their order. */
  async #putOpen(client: PostgresPoolClient, id: string, logId: string, { open }: LogPage): Promise<void> {
    await client.query({ text: `DELETE FROM ${this.#openStreams} WHERE session_id = $1`, values: [id] })
    if (open.length === 0) return
    const text = `
INSERT INTO ${this.#openStreams} (session_id, log_id, stream_id, position, runs, payload)
SELECT $1, $2, stream_id, rank - 1 - $3::bigint, runs, payload
FROM unnest(${unpacked(4)}, $5::bigint[], ${unpacked(6)}) WITH ORDINALITY AS open (stream_id, runs, payload, rank)`
    const streams = packTexts(open.map(({ streamId }) => streamId))
    const runs = packScalars(open.map(({ runs }) => runs))
    const payloads = packTexts(open.map(({ payload }) => payload))
    await client.query({ text, values: [id, logId, open.length, streams, runs, payloads] })
  }

  async #putEvents(
    client: PostgresPoolClient,
    id: string,
    logId: string,
    events: LogPage['events'],
  ): Promise<void> {
    const text = `
WITH due AS (
  UPDATE ${this.#logs} SET sweep_at = least(sweep_at, ${TIME('$8')}) WHERE session_id = $7
)
INSERT INTO ${this.#events} (log_id, position, stream_id, kind, payload, expires_at)
SELECT $1, position, stream_id, kind, payload, ${TIME('expiry')}
FROM unnest($2::bigint[], ${unpacked(3)}, $4::smallint[], ${unpacked(5)}, $6::float8[])
  AS event (position, stream_id, kind, payload, expiry)`
    const values = [
      logId,
      packScalars(events.map(({ position }) => position)),
      packTexts(events.map(({ streamId }) => streamId)),
      packScalars(events.map(({ kind }) => KINDS.indexOf(kind))),
      packTexts(events.map(({ payload }) => payload)),
      packScalars(events.map(({ expiresAt }) => expiresAt)),
      id,
      Math.min(...events.map(({ expiresAt }) => expiresAt)),
    ]
    await client.query({ text, values })
  }

  async #putSession(client: PostgresPoolClient, id: string, page: LogPage, session: Session): Promise<void> {
    const { principal, state, delivered, createdAt, lastUsedAt, ttl } = session
    const text = `
INSERT INTO ${this.#sessions} AS record
  (id, epoch, principal, state, generation, delivered, ttl, created_at, last_used_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, ${TIME('$8')}, ${TIME('$9')})
ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, principal = excluded.principal, state = excluded.state,
  owner = CASE WHEN record.epoch = excluded.epoch THEN record.owner END, generation = excluded.generation,
  delivered = CASE WHEN record.epoch = excluded.epoch THEN greatest(record.delivered, excluded.delivered) ELSE excluded.delivered END,
  ttl = excluded.ttl, created_at = excluded.created_at, last_used_at = excluded.last_used_at, tombstone_until = NULL`
    const who = principal === null ? null : encodeText(principal)
    const record = [id, page.epoch, who, JSON.stringify(state), page.generation, delivered, ttl]
    await client.query({ text, values: [...record, createdAt, lastUsedAt] })
  }

  async #session(sessionId: string, epoch: string): Promise<LogPage['session']> {
    interface Row {
      principal: string | null
      state: string
      delivered: string
      created_at: number
      last_used_at: number
      ttl: number
    }
    const [row] = await this.#query<Row>(
      `SELECT principal, state, delivered, ttl, ${MS('created_at')} AS created_at, ${MS('last_used_at')} AS last_used_at
       FROM ${this.#sessions} WHERE id = $1 AND epoch = $2 AND tombstone_until IS NULL`,
      [encodeText(sessionId), epoch],
    )
    if (!row) return null
    return {
      principal: row.principal === null ? null : (decodeText(row.principal) ?? row.principal),
      state: JSON.parse(row.state) as SessionState,
      delivered: Number(row.delivered),
      createdAt: Number(row.created_at),
      lastUsedAt: Number(row.last_used_at),
      ttl: Number(row.ttl),
    }
  }

  async #open(sessionId: string, logId: string): Promise<LogPage['open']> {
    const open = openStreamsOf(this.#options.schema, '$1', '$2::bigint')
    const { text } = statement(open)
    const [row] = await this.#query<{ open: string }>(`SELECT ${text} AS open`, [
      encodeText(sessionId),
      logId,
    ])
    return toOpenStreams(row!.open)
  }

  async #tombstone(sessionId: string): Promise<Tombstone | undefined> {
    const [row] = await this.#query<{ until: number }>(
      `SELECT ${MS('tombstone_until')} AS until FROM ${this.#sessions} WHERE id = $1 AND tombstone_until > now()`,
      [encodeText(sessionId)],
    )
    return row && { sessionId, terminatedUntil: Number(row.until) }
  }

  #query<Row>(text: string, values: unknown[]): Promise<Row[]> {
    return this.#options.connections.query<Row>({ text, values }, { repeatable: true })
  }
}
