import { resolve } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import { defaultLogger, type Logger } from '../../logger.ts'
import { warnOfOtherUnit } from '../../units.ts'
import { allPositive } from '../common/options.ts'
import type { MigrationTarget } from '../migrations/target.ts'
import type { Backend, StoreHealth, StoreStats, StoreTraits, SweepResult } from '../port.ts'
import { BackendStore } from '../store.ts'
import { SqliteBus } from './sqlite-bus.ts'
import { SqliteDatabase } from './sqlite-database.ts'
import { checkHealth, measure, readStats } from './sqlite-health.ts'
import { SqliteLocks } from './sqlite-locks.ts'
import { SqliteLog } from './sqlite-log.ts'
import { SqliteNodes } from './sqlite-nodes.ts'
import { SqliteSessions } from './sqlite-sessions.ts'
import { SqliteSockets } from './sqlite-sockets.ts'
import { countDue, sweep } from './sqlite-sweep.ts'
import { SqliteTasks } from './sqlite-tasks.ts'
import { SqliteTransfer } from './sqlite-transfer.ts'
import { SqliteWakeUps } from './sqlite-wake-ups.ts'

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

/** The parts of the SQLite store. */
class SqliteBackend implements Backend {
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
  readonly #sockets: SqliteSockets
  readonly #wakeUps: SqliteWakeUps
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
    this.#wakeUps = new SqliteWakeUps(this.#db)
    this.#sockets = new SqliteSockets()
    this.log = new SqliteLog(this.#db, clock)
    this.nodes = new SqliteNodes(this.#db, clock, this.#locks, this.#sockets)
    this.sessions = new SqliteSessions(this.#db, clock, this.log, this.nodes)
    this.bus = new SqliteBus(this.#db, clock, this.nodes, this.#wakeUps, this.#sockets)
    this.tasks = new SqliteTasks(this.#db, clock)
    this.transfer = new SqliteTransfer(this.#db, clock, this.log)
  }

  ready(): Promise<void> {
    return this.#db.ready()
  }

  ping(): Promise<number> {
    return measure(this.#db)
  }

  health(): Promise<StoreHealth> {
    const problems = [this.#wakeUps.problem, this.#sockets.problem]
    return checkHealth(this.#db, { durability: this.#durability, problems })
  }

  stats(): Promise<StoreStats> {
    return readStats(this.#db, this)
  }

  sweep({ limit = 1000, dryRun = false } = {}): Promise<SweepResult> {
    const { log, sessions, nodes, bus, tasks } = this
    const parts = { log, sessions, nodes, bus, tasks, sockets: this.#sockets }
    return dryRun ? countDue(this.#db, parts, limit) : sweep(this.#db, parts, limit)
  }

  close(): Promise<void> {
    return this.#db.close(async () => {
      await this.#wakeUps.close()
      await this.bus.close()
      this.#locks.close()
    })
  }
}

/**
 * One SQLite file in WAL mode, shared by the processes of one host. Needs the package better-sqlite3. Opens on first
 * use; `ready()` forces it.
 *
 * @throws PersistError `INVALID_ARGUMENT` for wrong options. Methods reject with `DRIVER_MISSING`,
 * `STORE_UNAVAILABLE` (locked), `STORE_READ_ONLY` (also a full disk), `INVALID_ARGUMENT` (no such folder), `STORE_CORRUPT`.
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

function check({ path, durability, timeout, logger = defaultLogger }: SqliteEventStoreOptions): void {
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
  warnOfOtherUnit(logger, { milliseconds: { timeout } })
}
