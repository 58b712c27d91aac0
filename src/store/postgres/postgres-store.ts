import { monotonicNow } from '../../clock.ts'
import { defaultLogger } from '../../logger.ts'
import { warnOfOtherUnit } from '../../units.ts'
import { allPositive } from '../common/options.ts'
import { applyMigrations, planMigrations } from '../migrations/migrate.ts'
import type { MigrationTarget } from '../migrations/target.ts'
import type { Backend, StoreHealth, StoreStats, SweepResult } from '../port.ts'
import { BackendStore } from '../store.ts'
import { PostgresAppender } from './postgres-appender.ts'
import { PostgresBus } from './postgres-bus.ts'
import { PostgresConnections } from './postgres-connections.ts'
import { loadDriver, type PostgresPool } from './postgres-driver.ts'
import { closed, notMigrated, toPersistError } from './postgres-errors.ts'
import { serverFacts, stats, warningsOf } from './postgres-health.ts'
import { PostgresListener } from './postgres-listener.ts'
import { PostgresLog } from './postgres-log.ts'
import { PostgresMessages } from './postgres-messages.ts'
import { PostgresMigrations } from './postgres-migrations.ts'
import { lockKey, PostgresNodes } from './postgres-nodes.ts'
import { type PostgresEventStoreOptions, type PostgresTarget, resolveTarget } from './postgres-options.ts'
import { PostgresSchema } from './postgres-schema.ts'
import { PostgresSessions } from './postgres-sessions.ts'
import { sweep } from './postgres-sweep.ts'
import { PostgresTasks } from './postgres-tasks.ts'
import { PostgresTransfer } from './postgres-transfer.ts'

export type { PostgresEventStoreOptions }

/** The parts of the PostgreSQL store. */
class PostgresBackend implements Backend {
  readonly backend = 'postgres'
  readonly traits = { durable: true, reach: 'network', detectsDeadNodes: true } as const
  readonly log: PostgresLog
  readonly sessions: PostgresSessions
  readonly nodes: PostgresNodes
  readonly bus: PostgresBus
  readonly tasks: PostgresTasks
  readonly transfer: PostgresTransfer
  /** What `mcp-persist migrate` works on. */
  readonly migrations: PostgresMigrations
  readonly #options: PostgresEventStoreOptions
  readonly #target: PostgresTarget
  readonly #connections: PostgresConnections
  readonly #schema: PostgresSchema
  readonly #listener: PostgresListener
  readonly #appender: PostgresAppender
  #opening: Promise<void> | undefined
  #eventsOnly = false
  #closing: Promise<void> | undefined

  constructor(options: PostgresEventStoreOptions) {
    const { pool, timeout = 5000, maxConnections = 10, logger = defaultLogger } = options
    allPositive({ timeout, maxConnections, maxWaiting: options.maxWaiting })
    warnOfOtherUnit(logger, { milliseconds: { timeout } })
    this.#options = options
    this.#target = resolveTarget(options)
    const { url, schema, masked } = this.#target
    const maxWaiting = options.maxWaiting ?? 10_000
    this.#connections = new PostgresConnections({
      openPool: async () => pool ?? new (await loadDriver()).Pool(poolConfig(url!, maxConnections, timeout)),
      ownsPool: pool === undefined,
      masked,
      timeout,
      maxConnections: pool === undefined ? maxConnections : (pool.options?.max ?? POOL_SIZE),
      maxWaiting,
      prepare: options.prepare ?? 'auto',
      logger,
    })
    this.#schema = new PostgresSchema(schema, this.#connections)
    this.migrations = new PostgresMigrations(this.#connections, schema)
    this.#listener = new PostgresListener({
      load: async () => ({
        Client: (await loadDriver()).Client,
        config: listenerConfig(options.listenUrl ?? url, pool),
      }),
      schema,
      masked,
      timeout,
      logger,
      keyOf: (nodeId) => lockKey(schema, nodeId),
      announce: (nodeId, held) => this.nodes.announce(nodeId, held),
    })
    const assertOpen = () => this.#assertOpen()
    const opened = () => this.#opened()
    const sessionsOpened = async () => {
      await opened()
      if (this.#eventsOnly) throw notMigrated(masked)
    }
    const openedWithSessions = async () => {
      assertOpen()
      await sessionsOpened()
    }
    this.nodes = new PostgresNodes(this.#schema, this.#listener, openedWithSessions)
    const { nodes } = this
    const parts = { connections: this.#connections, schema: this.#schema, maxWaiting }
    this.#appender = new PostgresAppender(this.#connections, this.#schema)
    const appender = this.#appender
    this.sessions = new PostgresSessions({
      schema: this.#schema,
      nodes,
      appender,
      whileQuiet: (id, work) => this.log.whileQuiet(id, work),
      opened: openedWithSessions,
    })
    this.log = new PostgresLog({
      ...parts,
      appender,
      assertOpen,
      opened,
      hasSessions: () => !this.#eventsOnly,
      forgetDead: async (ids) => (this.#eventsOnly ? undefined : this.sessions.forgetDead(ids)),
    })
    const listener = this.#listener
    const messages = new PostgresMessages({ ...parts, listener, nodes, opened: sessionsOpened })
    this.bus = new PostgresBus({ ...parts, listener, messages, assertOpen, opened })
    this.tasks = new PostgresTasks(this.#schema, openedWithSessions)
    this.transfer = new PostgresTransfer({
      connections: this.#connections,
      schema: this.#schema,
      log: this.log,
      hasSessions: async () => {
        await this.ready()
        return !this.#eventsOnly
      },
    })
  }

  async ready(): Promise<void> {
    this.#assertOpen()
    await this.#opened()
  }

  async ping(): Promise<number> {
    this.#assertOpen()
    const started = monotonicNow()
    await this.#connections.query({ text: 'SELECT 1' }, { repeatable: true, urgent: true })
    return monotonicNow() - started
  }

  async health(): Promise<StoreHealth> {
    const { backend } = this
    try {
      const latencyMs = await this.ping()
      const facts = await serverFacts(this.#schema)
      const migrations = await this.migrations.status()
      const warnings = warningsOf(facts, this.#wakeUpsArePooled())
      const known = { backend, version: facts.version, latencyMs, migrations, warnings }
      const error = await this.ready().then(
        () => undefined,
        (error) => toPersistError(error, this.#target.masked).message,
      )
      return error === undefined ? { ...known, ok: true } : { ...known, ok: false, error }
    } catch (error) {
      return { backend, ok: false, warnings: [], error: toPersistError(error, this.#target.masked).message }
    }
  }

  /** Events are counted up to 100,000; beyond that their number is the planner's estimate. */
  async stats(): Promise<StoreStats> {
    await this.ready()
    return stats(this.#schema, this.#eventsOnly)
  }

  async sweep({ limit = 1000, dryRun = false } = {}): Promise<SweepResult> {
    await this.ready()
    return sweep(this.#schema, { limit, dryRun, eventsOnly: this.#eventsOnly })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.all([this.log.settled(), this.bus.settled()])
    await this.#appender.close()
    await this.#listener.close()
    await this.#connections.close()
  }

  #opened(): Promise<void> {
    this.#opening ??= this.#open().catch((error) => {
      this.#opening = undefined
      throw error
    })
    return this.#opening
  }

  async #open(): Promise<void> {
    if (this.#options.autoMigrate) await applyMigrations(this.migrations)
    const { pending } = await planMigrations(this.migrations)
    if (pending.some(({ part }) => part === 'events')) throw notMigrated(this.#target.masked)
    this.#eventsOnly = pending.length > 0
  }

  /** Known from the listening connection, or foretold from the others. */
  #wakeUpsArePooled(): boolean {
    return (
      this.#listener.pooled ?? (this.#connections.direct === false && this.#options.listenUrl === undefined)
    )
  }

  #assertOpen(): void {
    if (this.#closing) throw closed()
  }
}

/**
 * PostgreSQL 13 and later through `pg` 8: shared by all hosts that reach it, and as durable as its
 * `synchronous_commit` says. Run `npx mcp-persist migrate --url …` once before the first use, or set `autoMigrate`.
 *
 * Nothing is opened before the first use. Methods reject with `DRIVER_MISSING` without `pg`, with `NOT_MIGRATED`
 * without the tables, with `SCHEMA_TOO_NEW` where a newer release has migrated, and as the port says.
 *
 * @throws PersistError `INVALID_ARGUMENT` from the constructor for a URL or schema name that is none.
 * @example
 * const store = new PostgresEventStore({ url: 'postgres://app:secret@db:5432/app?schema=mcp' })
 * const eventStore = store.forSession('session-1')
 */
export class PostgresEventStore extends BackendStore {
  /** What `mcp-persist migrate` works on. */
  readonly migrations: MigrationTarget

  constructor(options: PostgresEventStoreOptions) {
    const backend = new PostgresBackend(options)
    super(backend, options)
    this.migrations = backend.migrations
  }
}

/** Of a pool of pg, where its options do not say. */
const POOL_SIZE = 10
const LISTENER = { keepAlive: true, application_name: 'mcp-persist (wake-ups)' }

/** The pool keeps its password where a spread does not find it; it may be a function. `ssl` goes along as it is. */
function listenerConfig(url: string | undefined, pool: PostgresPool | undefined): object {
  if (url !== undefined) return { connectionString: url, ...LISTENER }
  return { ...pool?.options, password: pool?.options?.password, ...LISTENER }
}

function poolConfig(url: string, max: number, timeout: number): object {
  const limits = { max, connectionTimeoutMillis: timeout, keepAlive: true }
  return { connectionString: url, ...limits, application_name: 'mcp-persist' }
}
