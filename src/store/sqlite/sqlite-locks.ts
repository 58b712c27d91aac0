import { randomUUID } from 'node:crypto'
import { closeSync, openSync, readdirSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { SqliteDatabase } from './sqlite-database.ts'
import type { Connection } from './sqlite-driver.ts'
import { explain, isBusy } from './sqlite-errors.ts'

/** A file without a node is left alone this long: its node may be about to register. Milliseconds. */
const GRACE = 60_000

/**
 * A node holds an exclusive lock on a small file beside the database. The operating system frees it the moment the
 * process ends, however it ends, so whoever can read the file knows that the node is dead, without waiting for its
 * lease. The lock is SQLite's own, because Node has none; the file stays empty.
 */
export class SqliteLocks {
  readonly #db: SqliteDatabase
  readonly #held = new Map<string, Connection>()
  readonly #probes = new Map<string, Connection>()

  constructor(db: SqliteDatabase) {
    this.#db = db
  }

  /** Resolves with the name of a new file that is ours until `release`; null where no other process can ask. */
  async acquire(): Promise<string | null> {
    if (this.#db.inMemory) return null
    await this.#db.ready()
    const file = `${basename(this.#db.path)}-node-${randomUUID()}`
    try {
      // Whoever may read the database may ask for its nodes, and nobody else.
      const mode = statSync(this.#db.path).mode & 0o666
      closeSync(openSync(this.#resolve(file), 'wx', mode))
      const connection = this.#db.connect(this.#resolve(file), { timeout: 0 })
      this.#held.set(file, connection)
      // Nothing is ever written: there is no need of a journal, which would be a second file to leave behind.
      connection.pragma('journal_mode = MEMORY', { simple: true })
      connection.exec('BEGIN EXCLUSIVE')
    } catch (error) {
      this.release(file)
      throw explain(error, this.#resolve(file))
    }
    return file
  }

  release(file: string | null): void {
    if (file === null) return
    this.#held.get(file)?.close()
    this.#held.delete(file)
    this.remove(file)
  }

  /**
   * Has the process that held it ended? False also where that cannot be told: a file that is missing or cannot be
   * opened says nothing about its node, and the lease decides.
   */
  isFree(file: string | null): boolean {
    if (file === null || this.#held.has(file)) return false
    try {
      let probe = this.#probes.get(file)
      if (!probe) {
        probe = this.#db.connect(this.#resolve(file), { fileMustExist: true, timeout: 0 })
        this.#probes.set(file, probe)
      }
      // Reading takes a shared lock, so that those who ask at the same time do not take each other for the node.
      probe.prepare('SELECT 1 FROM sqlite_master').all()
      return true
    } catch (error) {
      if (!isBusy(error)) this.#forget(file)
      return false
    }
  }

  /** Deletes the file of a dead node. */
  remove(file: string): void {
    this.#forget(file)
    rmSync(this.#resolve(file), { force: true })
  }

  /** Deletes files that no node in the table has: of processes that died while they registered. */
  sweep(known: ReadonlySet<string | null>): void {
    if (this.#db.inMemory) return
    // Others have buried some of the nodes that we once asked about.
    for (const file of this.#probes.keys()) if (!known.has(file)) this.#forget(file)
    const prefix = `${basename(this.#db.path)}-node-`
    for (const file of readdirSync(dirname(this.#db.path))) {
      if (!file.startsWith(prefix) || known.has(file)) continue
      const stats = statSync(this.#resolve(file), { throwIfNoEntry: false })
      if (stats && Date.now() - stats.mtimeMs > GRACE && this.isFree(file)) this.remove(file)
    }
  }

  close(): void {
    for (const file of [...this.#held.keys()]) this.release(file)
    for (const file of [...this.#probes.keys()]) this.#forget(file)
  }

  #forget(file: string): void {
    this.#probes.get(file)?.close()
    this.#probes.delete(file)
  }

  #resolve(file: string): string {
    return join(dirname(this.#db.path), basename(file))
  }
}
