import { createHash } from 'node:crypto'
import type { NodeRecord, NodeTable } from '../port.ts'
import { sql } from './postgres-kysely.ts'
import type { PostgresListener } from './postgres-listener.ts'
import { type PostgresSchema, span } from './postgres-schema.ts'
import { encodeText } from './postgres-text.ts'

/**
 * How a dead node is told before its lease is over: while it lives, its listening connection holds an advisory lock,
 * which the server takes back the moment that connection ends. A free lock alone proves nothing, as the connection of
 * a living node may be cut, and the server may have ended them all. But then
 *
 * - the node tries again at once and at least every 250 ms, and has its lock back about as soon as anybody can reach
 *   the server: so who would take a session looks twice, `LOCK_GRACE` apart, and the second look takes nothing when the
 *   lock is held again or the lease was renewed in between;
 * - a node that cannot get its lock (an old connection of its own, half dead, still holds it; a pooler stands in
 *   between) has no `lock_key`, and is then dead only when its lease is over;
 * - and should all this be wrong, the generation still fences the old owner's writes: the living lose a session, no
 *   session is written by two.
 */
export const LOCK_GRACE = 750

/** SQL for "its lease runs, and its lock is not free"; a look takes the lock shared, for this one statement. */
export function isAlive(node: string) {
  const column = (name: string) => sql.ref(`${node}.${name}`)
  return sql<boolean>`(${column('lease_until')} > clock_timestamp() AND (${column('lock_key')} IS NULL
    OR NOT pg_try_advisory_xact_lock_shared(${column('lock_key')})))`
}

export function lockKey(schema: string, nodeId: string): string {
  const hash = createHash('sha256').update(`mcp-persist\0${schema}\0${nodeId}`).digest()
  return hash.readBigInt64BE().toString()
}

export class PostgresNodes implements NodeTable {
  readonly #schema: PostgresSchema
  readonly #listener: PostgresListener
  readonly #opened: () => Promise<void>

  constructor(schema: PostgresSchema, listener: PostgresListener, opened: () => Promise<void>) {
    this.#schema = schema
    this.#listener = listener
    this.#opened = opened
  }

  async register({ id, publicKey }: NodeRecord, lease: number): Promise<void> {
    await this.#opened()
    await this.#schema.raw(
      sql`
      WITH dropped AS (DELETE FROM ${this.#schema.table('mcp_letters')} WHERE node_id = ${encodeText(id)})
      INSERT INTO ${this.#schema.table('mcp_nodes')} (id, public_key, lease_until)
      VALUES (${encodeText(id)}, ${encodeText(publicKey)}, clock_timestamp() + ${span(lease)})
      ON CONFLICT (id) DO UPDATE
      SET public_key = excluded.public_key, lease_until = excluded.lease_until, lock_key = NULL`,
      { repeatable: true },
    )
    await this.#listener.hold(id)
  }

  async renew(id: string, lease: number): Promise<boolean> {
    await this.#opened()
    const rows = await this.#schema.run(
      this.#schema.db
        .updateTable('mcp_nodes')
        .set({ lease_until: sql`clock_timestamp() + ${span(lease)}` })
        .where('id', '=', encodeText(id))
        .where(sql<boolean>`lease_until > clock_timestamp()`)
        .returning('id'),
      { repeatable: true },
    )
    return rows.length > 0
  }

  async unregister(id: string): Promise<void> {
    await this.#opened()
    this.#listener.letGo(id)
    await this.#schema.run(this.#schema.db.deleteFrom('mcp_nodes').where('id', '=', encodeText(id)), {
      repeatable: true,
    })
  }

  async get(id: string): Promise<NodeRecord | undefined> {
    await this.#opened()
    const rows = await this.#schema.run<{ public_key: string }>(
      this.#schema.db
        .selectFrom('mcp_nodes as node')
        .select('node.public_key')
        .where('node.id', '=', encodeText(id))
        .where(isAlive('node')),
      { repeatable: true },
    )
    return rows[0] && { id, publicKey: rows[0].public_key }
  }
}
