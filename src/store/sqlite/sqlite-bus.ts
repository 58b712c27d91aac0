import type { Clock } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import { type Bus, MAILBOX_LIMIT, nodeChannel, type Subscription } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import type { SqliteNodes } from './sqlite-nodes.ts'
import type { SqliteWakeups } from './sqlite-wakeups.ts'

/** How long a published text is kept for those who are slow to look, in ms. */
const KEPT = 10_000

const COUNT_IN = `UPDATE mcp_nodes SET letters = letters + 1 WHERE id = ? AND letters < ${MAILBOX_LIMIT}`
const COUNT_OUT = 'UPDATE mcp_nodes SET letters = letters - ? WHERE id = ?'
const PUBLISH = 'INSERT INTO mcp_wakeups (channel, text, created_at) VALUES (?,?,?)'
const FORGET = `DELETE FROM mcp_wakeups WHERE id IN (
  SELECT id FROM (SELECT id, created_at FROM mcp_wakeups ORDER BY id LIMIT 512) WHERE created_at < ?)`
const COLLECT = `DELETE FROM mcp_letters WHERE id IN (
  SELECT id FROM mcp_letters WHERE node_id = ? ORDER BY id LIMIT 1000) RETURNING id, letter`

export class SqliteBus implements Bus {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #nodes: SqliteNodes
  readonly #wakeups: SqliteWakeups

  constructor(db: SqliteDatabase, clock: Clock, nodes: SqliteNodes, wakeups: SqliteWakeups) {
    this.#db = db
    this.#clock = clock
    this.#nodes = nodes
    this.#wakeups = wakeups
  }

  async post(nodeId: string, letter: Uint8Array): Promise<boolean> {
    const posted = await this.#db.write((sql) => {
      if (!this.#nodes.alive(sql, nodeId)) return false
      if (sql(COUNT_IN).run(nodeId).changes === 0) {
        throw new PersistError(
          'OVERLOADED',
          `The mailbox of node ${nodeId} holds ${MAILBOX_LIMIT} letters; it is full.`,
        )
      }
      sql('INSERT INTO mcp_letters (node_id, letter) VALUES (?,?)').run(nodeId, letter)
      this.#publish(sql, nodeChannel(nodeId), null)
      return true
    })
    this.#wakeups.announce()
    return posted
  }

  collect(nodeId: string): Promise<readonly Uint8Array[]> {
    return this.#db.write((sql) => {
      if (!this.#nodes.alive(sql, nodeId)) return []
      const letters = sql(COLLECT).all(nodeId) as { id: number; letter: Uint8Array }[]
      if (letters.length > 0) sql(COUNT_OUT).run(letters.length, nodeId)
      // RETURNING promises no order.
      return letters.sort((a, b) => a.id - b.id).map(({ letter }) => letter)
    })
  }

  async publish(channel: string, text: string): Promise<undefined> {
    await this.#db.write((sql) => this.#publish(sql, channel, text))
    this.#wakeups.announce()
  }

  subscribe(channel: string, onWake: (text: string | undefined) => void): Promise<Subscription> {
    return this.#wakeups.subscribe(channel, onWake)
  }

  // Each carries a little of the sweep, so that the table stays small without one.
  #publish(sql: Sql, channel: string, text: string | null): void {
    const now = this.#clock.now()
    const id = Number(sql(PUBLISH).run(channel, text, now).lastInsertRowid)
    if (id % 128 === 0) this.sweep(sql)
  }

  sweep(sql: Sql): void {
    sql(FORGET).run(this.#clock.now() - KEPT)
  }
}
