import { closeSync, openSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { PersistError } from '../../errors.ts'
import { GroupCommit, type Outcome } from '../common/group-commit.ts'
import { applyMigrations, planMigrations } from '../migrations/migrate.ts'
import {
  type Connection,
  type Driver,
  type DriverOptions,
  loadDriver,
  type Statement,
} from './sqlite-driver.ts'
import { explain, isBusy } from './sqlite-errors.ts'
import { SqliteMigrations } from './sqlite-migrations.ts'

/** The prepared statement for a text. */
export type Sql = (text: string) => Statement

/** Runs to its end in one turn of the event loop. In a write: throws a `PersistError` before it changes anything. */
type Task<R> = (sql: Sql) => R

interface Write {
  readonly task: Task<unknown>
  readonly bytes: number
}

export interface DatabaseOptions {
  /** Absolute, or `:memory:`. */
  readonly path: string
  readonly durability: 'normal' | 'full'
  readonly timeout: number
  readonly autoMigrate: boolean | 'events-only'
  readonly readonly: boolean
}

/**
 * The first statement that meets a lock blocks the event loop for so long at the most, in ms: commits of others are
 * shorter. Until the lock is free, all others then ask and come back later without blocking at all.
 */
const BLOCKING = 20
/** A -wal file that grew beyond this, in bytes, is cut when it begins anew. */
const MAX_WAL = 64 * 1024 * 1024

/**
 * One connection. All writes of one turn of the event loop share a transaction; a transaction begins and ends within
 * one turn, so that a read in between never falls into it.
 */
export class SqliteDatabase {
  readonly path: string
  /** Works on the file as it is: neither migrated nor checked. */
  readonly migrations: SqliteMigrations
  readonly #options: DatabaseOptions
  readonly #writes: GroupCommit<Write, unknown>
  #connecting: Promise<Connection> | undefined
  #opening: Promise<Connection> | undefined
  /** Set once it is open and migrated. */
  #connection: Connection | undefined
  #Driver: Driver | undefined
  #version: unknown
  #foreignChange = () => {}
  /** Tasks that wait for a lock. */
  #waiting = 0
  readonly #statements = new Map<string, Statement>()
  #closing: Promise<void> | undefined

  constructor(options: DatabaseOptions) {
    this.path = options.path
    this.#options = options
    this.#writes = new GroupCommit((writes) => this.#commit(writes.map(({ task }) => task)), {
      sizeOf: ({ bytes }) => bytes,
    })
    this.migrations = new SqliteMigrations(async (task) => {
      const connection = await this.#connect()
      return this.#attempt(connection, () => task(connection))
    })
  }

  async ready(): Promise<void> {
    this.assertOpen()
    await this.#open()
  }

  /** One consistent view over all statements of the task. */
  async read<R>(task: Task<R>): Promise<R> {
    this.assertOpen()
    const connection = this.#connection ?? (await this.#open())
    return this.#attempt(connection, () => {
      this.assertOpen()
      return this.#transaction(connection, 'BEGIN', () => task(this.#sql))
    })
  }

  /** `bytes`: about how many the task holds until it is done. */
  write<R>(task: Task<R>, bytes = 0): Promise<R> {
    if (this.#closing) return Promise.reject(this.#closed())
    return this.#writes.add({ task, bytes }) as Promise<R>
  }

  /** Settles what was accepted, calls `last`, and closes the connection. */
  close(last: () => Promise<void>): Promise<void> {
    this.#closing ??= this.#close(last)
    return this.#closing
  }

  assertOpen(): void {
    if (this.#closing) throw this.#closed()
  }

  /** Called in a write before its tasks, when the file may differ from what our last write left. */
  onForeignChange(callback: () => void): void {
    this.#foreignChange = callback
  }

  get inMemory(): boolean {
    return this.path === ':memory:'
  }

  /** Another connection. Only inside tasks: the driver is loaded then. */
  connect(path: string, options: DriverOptions): Connection {
    return new this.#Driver!(path, options)
  }

  #closed(): PersistError {
    return new PersistError('STORE_CLOSED', `The store of ${this.path} is closed; open a new one.`)
  }

  async #close(last: () => Promise<void>): Promise<void> {
    await this.#writes.settled()
    // An opening that fails has told its callers.
    await this.#opening?.catch(() => undefined)
    const connection = await this.#connecting?.catch(() => undefined)
    try {
      await last()
    } finally {
      connection?.close()
    }
  }

  /** A failed opening is forgotten, so that the next call tries again. */
  #open(): Promise<Connection> {
    this.#opening ??= this.#prepare().catch((error) => {
      this.#opening = undefined
      throw explain(error, this.path)
    })
    return this.#opening
  }

  async #prepare(): Promise<Connection> {
    const { autoMigrate, readonly } = this.#options
    const connection = await this.#connect()
    if (!readonly) {
      if (autoMigrate) await applyMigrations(this.migrations, { eventsOnly: autoMigrate === 'events-only' })
      else await this.#assertMigrated()
    }
    this.#connection = connection
    return connection
  }

  #connect(): Promise<Connection> {
    this.#connecting ??= this.#openFile().catch((error) => {
      this.#connecting = undefined
      throw explain(error, this.path)
    })
    return this.#connecting
  }

  async #openFile(): Promise<Connection> {
    const { path, durability, readonly } = this.#options
    this.#Driver ??= await loadDriver()
    if (!readonly && !this.inMemory) createPrivate(path)
    // The driver sets busy_timeout before anything else: even reading the journal mode can meet a lock.
    const connection = this.connect(path, { timeout: BLOCKING, fileMustExist: readonly })
    if (readonly) {
      // Opened read-only by the driver, it would leave its -wal and -shm files behind.
      connection.pragma('query_only = ON', { simple: true })
      return connection
    }
    try {
      // Two processes that switch a fresh file at once: one of them is refused, whatever its busy_timeout.
      const mode = await this.#attempt(connection, () =>
        connection.pragma('journal_mode = WAL', { simple: true }),
      )
      if (mode !== 'wal' && !this.inMemory) throw noWal(path, mode)
      connection.pragma(`synchronous = ${durability}`, { simple: true })
      connection.pragma(`journal_size_limit = ${MAX_WAL}`, { simple: true })
      return connection
    } catch (error) {
      connection.close()
      throw error
    }
  }

  async #assertMigrated(): Promise<void> {
    const { pending } = await planMigrations(this.migrations, { eventsOnly: true })
    if (pending.length === 0) return
    const names = pending.map(({ name }) => name).join(', ')
    throw new PersistError(
      'NOT_MIGRATED',
      `The database ${this.path} lacks ${names}; run \`npx mcp-persist migrate --url sqlite:${this.path}\`.`,
    )
  }

  readonly #sql: Sql = (text) => {
    let statement = this.#statements.get(text)
    if (!statement) {
      statement = this.#connection!.prepare(text)
      this.#statements.set(text, statement)
    }
    return statement
  }

  async #commit(tasks: readonly Task<unknown>[]): Promise<readonly Outcome<unknown>[]> {
    const connection = this.#connection ?? (await this.#open())
    const run = (one: (task: Task<unknown>) => Outcome<unknown>) =>
      this.#transaction(connection, 'BEGIN IMMEDIATE', () => {
        this.#lookForChange()
        return tasks.map(one)
      })
    return this.#attempt(connection, () => {
      try {
        return run((task) => this.#outcome(task))
      } catch (error) {
        if (tasks.length === 1 || isBusy(error)) throw error
        // One of them broke the transaction of all: again, with a savepoint around each.
        return run((task) => this.#isolated(connection, task))
      }
    })
  }

  #lookForChange(): void {
    // SQLite changes this number when another connection has committed since we last asked.
    const { data_version } = this.#sql('PRAGMA data_version').get() as { data_version: number }
    if (data_version !== this.#version) this.#foreignChange()
    this.#version = data_version
  }

  #outcome(task: Task<unknown>): Outcome<unknown> {
    try {
      return { ok: task(this.#sql) }
    } catch (error) {
      if (error instanceof PersistError) return { error }
      throw error
    }
  }

  #isolated(connection: Connection, task: Task<unknown>): Outcome<unknown> {
    this.#sql('SAVEPOINT task').run()
    try {
      const ok = task(this.#sql)
      this.#sql('RELEASE task').run()
      return { ok }
    } catch (error) {
      // SQLite gives up the whole transaction by itself when the disk is full or fails.
      if (!connection.inTransaction) throw error
      this.#foreignChange()
      this.#sql('ROLLBACK TO task').run()
      this.#sql('RELEASE task').run()
      return { error: explain(error, this.path) }
    }
  }

  #transaction<R>(connection: Connection, begin: string, task: () => R): R {
    this.#sql(begin).run()
    try {
      const result = task()
      this.#sql('COMMIT').run()
      return result
    } catch (error) {
      this.#version = undefined
      if (connection.inTransaction) this.#sql('ROLLBACK').run()
      throw error
    }
  }

  /** Repeats a task that met a lock, without blocking the event loop meanwhile, until the timeout. */
  async #attempt<R>(connection: Connection, task: () => R): Promise<R> {
    try {
      return task()
    } catch (error) {
      if (!isBusy(error)) throw explain(error, this.path)
    }
    const deadline = performance.now() + this.#options.timeout - BLOCKING
    if (this.#waiting++ === 0) connection.pragma('busy_timeout = 0', { simple: true })
    try {
      for (;;) {
        // This timer keeps the process alive: a write that was accepted is not dropped by an early exit.
        await wait(1 + Math.random() * 10)
        try {
          return task()
        } catch (error) {
          if (!isBusy(error) || performance.now() >= deadline) throw explain(error, this.path)
        }
      }
    } finally {
      if (--this.#waiting === 0 && connection.open) {
        connection.pragma(`busy_timeout = ${BLOCKING}`, { simple: true })
      }
    }
  }
}

/** A new file is for its owner alone; -wal and -shm get the mode that it has. One that is there stays as it is. */
function createPrivate(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch {
    // It is there, or cannot be made: opening it says what is wrong.
  }
}

function noWal(path: string, mode: unknown): PersistError {
  const facts = `The database ${path} cannot be opened in WAL mode (its file system leaves it in mode ${mode})`
  return new PersistError('STORE_UNAVAILABLE', `${facts}; put it on a local disk.`)
}
