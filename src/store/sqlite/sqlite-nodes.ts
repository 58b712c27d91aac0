import type { Clock } from '../../clock.ts'
import type { NodeRecord, NodeTable } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import type { SqliteLocks } from './sqlite-locks.ts'
import type { SqliteSockets } from './sqlite-sockets.ts'

/** A node's row. */
export interface SqliteNode extends NodeRecord {
  readonly leaseUntil: number
  readonly lockFile: string | null
  /** The path of its socket, as its own process sees it. */
  readonly socket: string | null
}

const COLUMNS = `SELECT id, public_key AS publicKey, profile, lease_until AS leaseUntil, lock_file AS lockFile, socket
  FROM mcp_nodes`
const REGISTER = `INSERT OR REPLACE INTO mcp_nodes (id, public_key, profile, lease_until, lock_file, socket)
  VALUES (?,?,?,?,?,?)`
const RENEW = 'UPDATE mcp_nodes SET lease_until = ? WHERE id = ? AND lease_until > ?'

/** Nodes in a list at the most. */
const LISTED = 1_000
/** Nodes whose rows are remembered. */
const REMEMBERED = 1_000

/** A node is alive while its lease runs and its process holds the lock on its file. */
export class SqliteNodes implements NodeTable {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #locks: SqliteLocks
  readonly #sockets: SqliteSockets
  /** The lock files of the nodes that this store registered: whoever has buried one has taken its row away. */
  readonly #own = new Map<string, string | null>()
  readonly #trusted = new Map<string, SqliteNode>()

  constructor(db: SqliteDatabase, clock: Clock, locks: SqliteLocks, sockets: SqliteSockets) {
    this.#db = db
    this.#clock = clock
    this.#locks = locks
    this.#sockets = sockets
  }

  async register({ id, publicKey, profile }: NodeRecord, lease: number): Promise<void> {
    this.#db.assertOpen()
    // The lock comes first: a row in the table whose file is not locked is a dead node's.
    const file = await this.#locks.acquire()
    try {
      await this.#db.write((sql) => {
        this.bury(sql, id)
        const until = this.#clock.now() + lease
        sql(REGISTER).run(id, publicKey, profile, until, file, this.#sockets.pathOf(id))
      })
      this.#letGo(id)
      this.#own.set(id, file)
      // Whoever knew the node by its row of before is to look again.
      await this.#sockets.hangUp(id)
    } catch (error) {
      this.#locks.release(file)
      throw error
    }
  }

  async renew(id: string, lease: number): Promise<boolean> {
    const renewed = await this.#db.write((sql) => {
      const now = this.#clock.now()
      return sql(RENEW).run(now + lease, id, now).changes === 1
    })
    // Such a node comes back under another id; what stood for this one is of no more use.
    if (!renewed) this.#letGo(id)
    return renewed
  }

  async unregister(id: string): Promise<void> {
    await this.#db.write((sql) => this.bury(sql, id))
    this.#letGo(id)
    // Not before the row is gone: whoever is hung up on looks at it.
    await this.#sockets.hangUp(id)
  }

  get(id: string): Promise<NodeRecord | undefined> {
    return this.#db.read((sql) => {
      const row = this.find(sql, id)
      return row && toRecord(row)
    })
  }

  list(): Promise<readonly NodeRecord[]> {
    return this.#db.read((sql) =>
      this.#all(sql)
        .filter((row) => this.#isAlive(row))
        .slice(0, LISTED)
        .map(toRecord),
    )
  }

  /** The row of a node that is alive. */
  find(sql: Sql, id: string): SqliteNode | undefined {
    const row = sql(`${COLUMNS} WHERE id = ?`).get(id) as SqliteNode | undefined
    return row && this.#isAlive(row) ? row : undefined
  }

  alive(sql: Sql, id: string): boolean {
    return this.find(sql, id) !== undefined
  }

  count(sql: Sql): number {
    return this.#all(sql).filter((row) => this.#isAlive(row)).length
  }

  /** Removes a node that is no more, and its files. */
  bury(sql: Sql, id: string): void {
    const row = sql(`${COLUMNS} WHERE id = ?`).get(id) as SqliteNode | undefined
    if (!row) return
    sql('DELETE FROM mcp_nodes WHERE id = ?').run(id)
    this.#locks.release(row.lockFile)
    this.#trusted.delete(id)
    if (row.socket !== null) this.#sockets.remove(row.socket)
  }

  sweep(sql: Sql, dryRun: boolean): number {
    const rows = this.#all(sql)
    const dead = rows.filter((row) => !this.#isAlive(row))
    if (!dryRun) {
      for (const { id } of dead) this.bury(sql, id)
      const known = new Set(rows.map(({ id }) => id))
      for (const id of this.#own.keys()) if (!known.has(id)) this.#letGo(id)
      this.#locks.sweep(new Set(rows.map(({ lockFile }) => lockFile)))
    }
    return dead.length
  }

  /** The row of a node that is alive, remembered for `trust`. */
  async look(id: string): Promise<SqliteNode | undefined> {
    const node = await this.#db.read((sql) => this.find(sql, id))
    if (this.#trusted.size >= REMEMBERED) this.#trusted.clear()
    if (node) this.#trusted.set(id, node)
    else this.#trusted.delete(id)
    return node
  }

  /**
   * As `look`, but the file is not asked while the lease that was seen last runs: for those who would hear of the node's
   * end in another way.
   */
  async trust(id: string): Promise<SqliteNode | undefined> {
    const known = this.#trusted.get(id)
    return known && known.leaseUntil > this.#clock.now() ? known : this.look(id)
  }

  /** The node is heard on this socket from now on. */
  async heardOn(id: string, socket: string | null): Promise<void> {
    if (!this.#own.has(id)) return
    await this.#db.write((sql) => sql('UPDATE mcp_nodes SET socket = ? WHERE id = ?').run(socket, id))
  }

  #letGo(id: string): void {
    this.#locks.release(this.#own.get(id) ?? null)
    this.#own.delete(id)
  }

  #isAlive({ leaseUntil, lockFile }: SqliteNode): boolean {
    return leaseUntil > this.#clock.now() && !this.#locks.isFree(lockFile)
  }

  #all(sql: Sql): SqliteNode[] {
    return sql(COLUMNS).all() as SqliteNode[]
  }
}

function toRecord({ id, publicKey, profile }: SqliteNode): NodeRecord {
  return { id, publicKey, profile }
}
