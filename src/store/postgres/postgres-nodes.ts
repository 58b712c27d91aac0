import { createHash } from 'node:crypto'
import { delay } from '../../clock.ts'
import { UnderWay } from '../common/under-way.ts'
import type { NodeRecord, NodeTable } from '../port.ts'
import type { PostgresListener } from './postgres-listener.ts'
import { type PostgresSchema, span } from './postgres-schema.ts'
import { raw, sql } from './postgres-sql.ts'
import { decodeText, encodeText } from './postgres-text.ts'

/**
 * How a dead node is told before its lease is over: while it lives, its listening connection holds an advisory lock,
 * which the server takes back the moment that connection ends. A free lock alone proves nothing, as the connection of
 * a living node may be cut, and the server may have ended them all. But then
 *
 * - the node tries again at once and at least every 250 ms, and has its lock back about as soon as anybody can reach
 *   the server: so who would call it dead looks twice, `LOCK_GRACE` apart, and the second look finds it alive when the
 *   lock is held again or the lease was renewed in between;
 * - who calls it dead ends its lease in the same step. For the others a dead node is gone for good, and its word is not
 *   heard any more: one that was alive after all must not go on under that id, and learns it at its next renewal;
 * - a node that cannot get its lock (an old connection of its own, half dead, still holds it; a pooler stands in
 *   between) has no `lock_key`, and is then dead only when its lease is over;
 * - and should all this be wrong, the generation still fences the old owner's writes: the living lose a session, no
 *   session is written by two.
 */
const LOCK_GRACE = 750

/** SQL for "its lease runs, and its lock is not free"; a look takes the lock shared, for this one statement. */
export function isAlive(node: string): string {
  return `(${node}.lease_until > clock_timestamp() AND (${node}.lock_key IS NULL
    OR NOT pg_try_advisory_xact_lock_shared(${node}.lock_key)))`
}

export function lockKey(schema: string, nodeId: string): string {
  const hash = createHash('sha256').update(`mcp-persist\0${schema}\0${nodeId}`).digest()
  return hash.readBigInt64BE().toString()
}

/** SQL for a lease in microseconds, so that it comes back as it is. */
const LEASE = '(extract(epoch FROM lease_until) * 1000000)::bigint'

const URGENT = { repeatable: true, urgent: true }

export class PostgresNodes implements NodeTable {
  readonly #schema: PostgresSchema
  readonly #listener: PostgresListener
  readonly #opened: () => Promise<void>
  readonly #verdicts = new UnderWay<boolean>()

  constructor(schema: PostgresSchema, listener: PostgresListener, opened: () => Promise<void>) {
    this.#schema = schema
    this.#listener = listener
    this.#opened = opened
  }

  async register({ id, publicKey, profile }: NodeRecord, lease: number): Promise<void> {
    await this.#opened()
    await this.#schema.rows(
      sql`
      INSERT INTO ${this.#table} (id, public_key, profile, lease_until)
      VALUES (${encodeText(id)}, ${encodeText(publicKey)}, ${encodeText(profile)}, clock_timestamp() + ${span(lease)})
      ON CONFLICT (id) DO UPDATE SET public_key = excluded.public_key, profile = excluded.profile,
        lease_until = excluded.lease_until, lock_key = NULL`,
      URGENT,
    )
    await this.#listener.hold(id)
  }

  async renew(id: string, lease: number): Promise<boolean> {
    await this.#opened()
    const rows = await this.#schema.rows(
      sql`
      UPDATE ${this.#table} SET lease_until = clock_timestamp() + ${span(lease)}
      WHERE id = ${encodeText(id)} AND lease_until > clock_timestamp() RETURNING id`,
      URGENT,
    )
    // An id that has lapsed never comes back.
    if (rows.length === 0) this.#listener.letGo(id)
    return rows.length > 0
  }

  async unregister(id: string): Promise<void> {
    await this.#opened()
    this.#listener.letGo(id)
    await this.#schema.rows(sql`DELETE FROM ${this.#table} WHERE id = ${encodeText(id)}`, URGENT)
  }

  async get(id: string): Promise<NodeRecord | undefined> {
    await this.#opened()
    const [row] = await this.#schema.rows<{ public_key: string; profile: string; alive: boolean }>(
      sql`
      SELECT public_key, profile, ${raw(isAlive('node'))} AS alive FROM ${this.#table} AS node
      WHERE id = ${encodeText(id)} AND lease_until > clock_timestamp()`,
      URGENT,
    )
    if (!row || (!row.alive && (await this.isDead(id)))) return undefined
    return { id, publicKey: decoded(row.public_key), profile: decoded(row.profile) }
  }

  async list(): Promise<readonly NodeRecord[]> {
    await this.#opened()
    const rows = await this.#schema.rows<{ id: string; public_key: string; profile: string }>(
      sql`SELECT id, public_key, profile FROM ${this.#table} AS node WHERE ${raw(isAlive('node'))} LIMIT 1000`,
      URGENT,
    )
    return rows.map(({ id, public_key, profile }) => ({
      id: decoded(id),
      publicKey: decoded(public_key),
      profile: decoded(profile),
    }))
  }

  /** Looks again after the grace, and ends the lease of a node that is dead. For nodes whose lock seemed to be free. */
  isDead(id: string): Promise<boolean> {
    return this.#verdicts.run(id, () => this.#declareDead(id))
  }

  async #declareDead(id: string): Promise<boolean> {
    const seen = await this.#look(id)
    if (!seen || seen.alive) return !seen
    await delay(LOCK_GRACE)
    const ended = await this.#schema.rows(
      sql`
      UPDATE ${this.#table} AS node SET lease_until = clock_timestamp()
      WHERE id = ${encodeText(id)} AND ${raw(LEASE)} = ${String(seen.lease)}::bigint
        AND lease_until > clock_timestamp() AND NOT ${raw(isAlive('node'))} RETURNING id`,
      URGENT,
    )
    // It renewed, or has its lock again; or somebody else has ended its lease.
    return ended.length > 0 || (await this.#look(id)) === undefined
  }

  /** Undefined: it is not registered, or its lease is over. */
  async #look(id: string): Promise<{ lease: string | number; alive: boolean } | undefined> {
    const [row] = await this.#schema.rows<{ lease: string | number; alive: boolean }>(
      sql`
      SELECT ${raw(LEASE)} AS lease, ${raw(isAlive('node'))} AS alive FROM ${this.#table} AS node
      WHERE id = ${encodeText(id)} AND lease_until > clock_timestamp()`,
      URGENT,
    )
    return row
  }

  /** Writes down whether the lock of a node is held. False: its lease is over. */
  async announce(id: string, held: boolean): Promise<boolean> {
    const key = lockKey(this.#schema.name, id)
    // Looked at from a connection of the pool: a listenUrl to another database would pass every node for dead.
    const lock = held
      ? sql`CASE WHEN pg_try_advisory_xact_lock_shared(${key}::bigint) THEN NULL ELSE ${key}::bigint END`
      : sql`NULL`
    const rows = await this.#schema.rows(
      sql`
      UPDATE ${this.#table} SET lock_key = ${lock}
      WHERE id = ${encodeText(id)} AND lease_until > clock_timestamp() RETURNING id`,
      URGENT,
    )
    return rows.length > 0
  }

  get #table() {
    return this.#schema.table('mcp_nodes')
  }
}

function decoded(text: string): string {
  return decodeText(text) ?? text
}
