import type { Clock } from '../../clock.ts'
import type { NodeRecord, NodeTable } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import type { SqliteLocks } from './sqlite-locks.ts'

interface Row extends NodeRecord {
  readonly leaseUntil: number
  readonly lockFile: string | null
}

const COLUMNS =
  'SELECT id, public_key AS publicKey, lease_until AS leaseUntil, lock_file AS lockFile FROM mcp_nodes'
const REGISTER = 'INSERT OR REPLACE INTO mcp_nodes (id, public_key, lease_until, lock_file) VALUES (?,?,?,?)'
const RENEW = 'UPDATE mcp_nodes SET lease_until = ? WHERE id = ? AND lease_until > ?'

/** A node is alive while its lease runs and its process holds the lock on its file. */
export class SqliteNodes implements NodeTable {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #locks: SqliteLocks

  constructor(db: SqliteDatabase, clock: Clock, locks: SqliteLocks) {
    this.#db = db
    this.#clock = clock
    this.#locks = locks
  }

  async register({ id, publicKey }: NodeRecord, lease: number): Promise<void> {
    this.#db.assertOpen()
    // The lock comes first: a row in the table whose file is not locked is a dead node's.
    const file = await this.#locks.acquire()
    try {
      await this.#db.write((sql) => {
        this.bury(sql, id)
        sql(REGISTER).run(id, publicKey, this.#clock.now() + lease, file)
      })
    } catch (error) {
      this.#locks.release(file)
      throw error
    }
  }

  renew(id: string, lease: number): Promise<boolean> {
    return this.#db.write((sql) => {
      const now = this.#clock.now()
      return sql(RENEW).run(now + lease, id, now).changes === 1
    })
  }

  unregister(id: string): Promise<void> {
    return this.#db.write((sql) => this.bury(sql, id))
  }

  get(id: string): Promise<NodeRecord | undefined> {
    return this.#db.read((sql) => {
      const row = this.#find(sql, id)
      return row && this.#isAlive(row) ? { id: row.id, publicKey: row.publicKey } : undefined
    })
  }

  alive(sql: Sql, id: string): boolean {
    const row = this.#find(sql, id)
    return row !== undefined && this.#isAlive(row)
  }

  count(sql: Sql): number {
    return this.#all(sql).filter((row) => this.#isAlive(row)).length
  }

  /** Removes a node that is no more, its letters and its file. */
  bury(sql: Sql, id: string): void {
    const row = this.#find(sql, id)
    if (!row) return
    sql('DELETE FROM mcp_letters WHERE node_id = ?').run(id)
    sql('DELETE FROM mcp_nodes WHERE id = ?').run(id)
    this.#locks.release(row.lockFile)
  }

  sweep(sql: Sql, dryRun: boolean): number {
    const rows = this.#all(sql)
    const dead = rows.filter((row) => !this.#isAlive(row))
    if (!dryRun) {
      for (const { id } of dead) this.bury(sql, id)
      this.#locks.sweep(new Set(rows.map(({ lockFile }) => lockFile)))
    }
    return dead.length
  }

  #isAlive({ leaseUntil, lockFile }: Row): boolean {
    return leaseUntil > this.#clock.now() && !this.#locks.isFree(lockFile)
  }

  #find(sql: Sql, id: string): Row | undefined {
    return sql(`${COLUMNS} WHERE id = ?`).get(id) as Row | undefined
  }

  #all(sql: Sql): Row[] {
    return sql(COLUMNS).all() as Row[]
  }
}
