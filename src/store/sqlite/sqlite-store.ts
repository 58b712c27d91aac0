import { resolve } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { errorText, PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { migrationHealth } from '../migrations/migrate.ts'
import type { MigrationTarget } from '../migrations/target.ts'
import type { Backend, StoreHealth, StoreStats, StoreTraits, SweepResult } from '../port.ts'
import { allPositive } from '../shared/options.ts'
import { BackendStore } from '../store.ts'
import { SqliteBus } from './sqlite-bus.ts'
import { type Sql, SqliteDatabase } from './sqlite-database.ts'
import { SqliteLocks } from './sqlite-locks.ts'
import { SqliteLog } from './sqlite-log.ts'
import { SqliteNodes } from './sqlite-nodes.ts'
import { SqliteSessions } from './sqlite-sessions.ts'
import { SqliteTasks } from './sqlite-tasks.ts'
import { SqliteTransfer } from './sqlite-transfer.ts'
import { SqliteWakeups } from './sqlite-wakeups.ts'

export interface SqliteEventStoreOptions {
  /** The file; created where its folder exists. `:memory:` keeps everything in this process's memory. */
  readonly path: string
  /** Seconds that `forSession()` keeps events. Default 3600. */
  readonly ttl?: number
  /**
   * What an acknowledged write survives: `normal` (the default) the end of the process, `full` also a power cut, at
   * the price of waiting for the disk in each commit. SQLite's `PRAGMA synchronous`.
   */
  readonly durability?: 'normal' | 'full'
  /** How long a call waits for other processes to release the file, in ms. Default 5000. */
  readonly timeout?: number
  /** Bring the schema up to date on opening: all of it, only the events' part, or not. Default true. */
  readonly autoMigrate?: boolean | 'events-only'
  /** Open an existing file without ever changing it. Default false. */
  readonly readonly?: boolean
  /** Where it is reported that a server event was not carried. Default: one line on stderr. */
  readonly logger?: Logger
  readonly clock?: Clock
}

/** Rows deleted in one transaction of a sweep: the event loop and other processes wait for no more. */
const SWEEP_BATCH = 200

const BYTES = 'SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size'

/** The parts of the SQLite store. */
export class SqliteBackend implements Backend {
  readonly backend = 'sqlite'
  readonly traits: StoreTraits
  readonly log: SqliteLog
  readonly nodes: SqliteNodes
  readonly sessions: SqliteSessions
  readonly bus: SqliteBus
  readonly tasks: SqliteTasks
  readonly transfer: SqliteTransfer
  /** What `mcp-persist migrate` works on. */
  readonly migrations: MigrationTarget
  readonly #db: SqliteDatabase
  readonly #locks: SqliteLocks
  readonly #wakeups: SqliteWakeups
  readonly #durability: 'normal' | 'full'

  constructor(given: SqliteEventStoreOptions) {
    const { path, durability = 'normal', timeout = 5000, clock = systemClock } = given
    const { autoMigrate = true, readonly = false } = given
    check(given)
    const inMemory = path === ':memory:'
    this.#durability = durability
    this.traits = {
      durable: !inMemory,
      reach: inMemory ? 'process' : 'host',
      detectsDeadNodes: !inMemory,
    }
    // The path must not change its meaning when the process changes its folder.
    const absolute = inMemory ? path : resolve(path)
    this.#db = new SqliteDatabase({ path: absolute, durability, timeout, autoMigrate, readonly })
    this.migrations = this.#db.migrations
    this.#locks = new SqliteLocks(this.#db)
    this.#wakeups = new SqliteWakeups(this.#db)
    this.log = new SqliteLog(this.#db, clock)
    this.nodes = new SqliteNodes(this.#db, clock, this.#locks)
    this.sessions = new SqliteSessions(this.#db, clock, this.log, this.nodes)
    this.bus = new SqliteBus(this.#db, clock, this.nodes, this.#wakeups)
    this.tasks = new SqliteTasks(this.#db, clock)
    this.transfer = new SqliteTransfer(this.#db, clock, this.log)
  }

  ready(): Promise<void> {
    return this.#db.ready()
  }

  async ping(): Promise<number> {
    await this.#db.ready()
    const start = performance.now()
    await this.#db.read((sql) => sql('SELECT 1 FROM mcp_logs LIMIT 1').get())
    return performance.now() - start
  }

  async health(): Promise<StoreHealth> {
    const { backend } = this
    const warnings: string[] = []
    if (!this.traits.durable) warnings.push('Events and sessions are lost when this process ends.')
    else if (this.#durability === 'normal') {
      warnings.push("A power cut may cost the last moments' events; `durability: 'full'` prevents it.")
    }
    if (this.#wakeups.problem) warnings.push(this.#wakeups.problem)
    try {
      const latencyMs = await this.ping()
      const migrations = await migrationHealth(this.migrations)
      const { version } = (await this.#db.read((sql) => sql('SELECT sqlite_version() AS version').get())) as {
        version: string
      }
      return { backend, ok: true, version: `SQLite ${version}`, latencyMs, migrations, warnings }
    } catch (error) {
      return { backend, ok: false, warnings, error: errorText(error) }
    }
  }

  stats(): Promise<StoreStats> {
    return this.#db.read((sql) => {
      const { bytes } = sql(BYTES).get() as { bytes: number }
      const { events } = sql('SELECT count(*) AS events FROM mcp_events').get() as { events: number }
      if (!hasSessions(sql)) return { events, bytes, sessions: 0, nodes: 0 }
      return { events, bytes, sessions: this.sessions.count(sql), nodes: this.nodes.count(sql) }
    })
  }

  async sweep({ limit = 1000, dryRun = false } = {}): Promise<SweepResult> {
    if (dryRun) {
      return this.#db.read((sql) => {
        const events = this.log.countDue(sql, limit)
        if (!hasSessions(sql)) return { events, sessions: 0, nodes: 0, more: events >= limit }
        const { sessions } = this.sessions.sweep(sql, limit, true)
        const nodes = this.nodes.sweep(sql, true)
        return { events, sessions, nodes, more: events >= limit || sessions >= limit }
      })
    }
    const total = { events: 0, sessions: 0, nodes: 0, more: true }
    let left = limit
    while (left > 0 && total.more) {
      const { tasks, ...step } = await this.#db.write((sql) => this.#sweep(sql, Math.min(left, SWEEP_BATCH)))
      left -= Math.max(step.events, step.sessions, tasks)
      total.events += step.events
      total.sessions += step.sessions
      total.nodes += step.nodes
      total.more = step.more
    }
    return total
  }

  #sweep(sql: Sql, limit: number): SweepResult & { tasks: number } {
    const { events, more } = this.log.sweep(sql, limit)
    if (!hasSessions(sql)) return { events, sessions: 0, nodes: 0, tasks: 0, more }
    const swept = this.sessions.sweep(sql, limit, false)
    this.bus.sweep(sql)
    const nodes = this.nodes.sweep(sql, false)
    const tasks = this.tasks.sweep(sql, limit)
    return { events, sessions: swept.sessions, nodes, tasks, more: more || swept.more || tasks >= limit }
  }

  close(): Promise<void> {
    return this.#db.close(async () => {
      await this.#wakeups.close()
      this.#locks.close()
    })
  }
}

/**
 * One SQLite file in WAL mode, shared by the processes of one host. Needs the package better-sqlite3. Opens on first
 * use; `ready()` forces it.
 *
 * @throws PersistError `INVALID_ARGUMENT` for wrong options. Methods reject with `DRIVER_MISSING`,
 * `STORE_UNAVAILABLE` (locked, or the path cannot be opened), `STORE_READ_ONLY` (also a full disk), `STORE_CORRUPT`.
 * @example
 * const store = new SqliteEventStore('mcp.db')
 * const eventStore = store.forSession('session-1')
 */
export class SqliteEventStore extends BackendStore {
  /** What `mcp-persist migrate` works on. */
  readonly migrations: MigrationTarget

  constructor(options: SqliteEventStoreOptions | string) {
    const given = typeof options === 'string' ? { path: options } : options
    const backend = new SqliteBackend(given)
    super(backend, given)
    this.migrations = backend.migrations
  }
}

/** A file that was migrated for events only has nothing else to count or sweep. */
function hasSessions(sql: Sql): boolean {
  return sql("SELECT 1 FROM sqlite_master WHERE name = 'mcp_sessions'").get() !== undefined
}

function check({ path, durability, timeout }: SqliteEventStoreOptions): void {
  const refuse = (text: string) => new PersistError('INVALID_ARGUMENT', text)
  if (typeof path !== 'string' || path === '') {
    throw refuse("SqliteEventStore needs a path: new SqliteEventStore('mcp.db').")
  }
  if (/^\w{2,}:(?!memory:)/.test(path)) {
    throw refuse(`SqliteEventStore takes a path, and '${path}' looks like a URL; use openStore() for URLs.`)
  }
  if (durability !== undefined && durability !== 'normal' && durability !== 'full') {
    throw refuse(`durability is 'normal' or 'full', not '${durability}'.`)
  }
  allPositive({ timeout })
}
