import { type Clock, systemClock } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import { defaultLogger, type Logger } from '../../logger.ts'
import type { SessionEventStoreOptions, StoreHealth, StoreStats, SweepResult } from '../port.ts'
import { DEFAULT_TTL } from '../port.ts'
import { type ServerEventBus, serverEventBus } from '../sdk/server-event-bus.ts'
import { sessionEventStore } from '../sdk/session-event-store.ts'
import { type QueuedMessage, type TaskMessageQueue, taskMessageQueue } from '../sdk/task-message-queue.ts'
import { type TaskResult, type TaskStore, type TaskStoreOptions, taskStore } from '../sdk/task-store.ts'
import { announceTerminations } from '../shared/announce-terminations.ts'
import { type LocalNodes, rememberLocalNodes } from '../shared/local-nodes.ts'
import type { Store } from '../store.ts'
import { MemoryBus } from './memory-bus.ts'
import { MemoryLog } from './memory-log.ts'
import { MemoryNodes } from './memory-nodes.ts'
import { MemorySessions } from './memory-sessions.ts'
import { MemoryTasks } from './memory-tasks.ts'
import { MemoryTransfer } from './memory-transfer.ts'

export interface MemoryEventStoreOptions {
  /** Seconds that `forSession()` keeps events. Default 3600. */
  readonly ttl?: number
  /** Where it is reported that a server event was not carried. Default: one line on stderr. */
  readonly logger?: Logger
  readonly clock?: Clock
}

/**
 * Everything in this process's memory: the shortest correct backend, the reference for the others, and good for
 * tests and for streams that need not outlive the process.
 *
 * @example
 * const store = new MemoryEventStore()
 * const eventStore = store.forSession('session-1')
 */
export class MemoryEventStore implements Store {
  readonly backend = 'memory'
  readonly traits = { durable: false, reach: 'process', detectsDeadNodes: false } as const
  readonly log: MemoryLog
  readonly nodes: MemoryNodes
  readonly sessions: MemorySessions
  readonly bus: MemoryBus
  readonly tasks: MemoryTasks
  readonly transfer: MemoryTransfer
  readonly #local: LocalNodes
  readonly #ttl: number
  readonly #logger: Logger
  #closed = false

  constructor({
    ttl = DEFAULT_TTL,
    logger = defaultLogger,
    clock = systemClock,
  }: MemoryEventStoreOptions = {}) {
    this.#ttl = ttl
    this.#logger = logger
    const assertOpen = () => this.#assertOpen()
    this.log = new MemoryLog(clock, assertOpen)
    this.nodes = new MemoryNodes(clock, assertOpen)
    this.sessions = new MemorySessions(clock, this.log, this.nodes, assertOpen)
    this.bus = new MemoryBus(this.nodes, assertOpen)
    this.tasks = new MemoryTasks(clock, assertOpen)
    this.#local = rememberLocalNodes(this.nodes)
    announceTerminations(this.sessions, this.bus)
    this.transfer = new MemoryTransfer(this.log, this.sessions, assertOpen)
  }

  forSession(sessionId: string, options: SessionEventStoreOptions = {}) {
    return sessionEventStore(this.log, sessionId, { ...options, ttl: options.ttl ?? this.#ttl })
  }

  serverEventBus<E extends object>(): ServerEventBus<E> {
    return serverEventBus(this.bus, this.#logger)
  }

  taskStore<R extends object = TaskResult>(options: TaskStoreOptions = {}): TaskStore<R> {
    const parts = { tasks: this.tasks, nodes: this.nodes, local: this.#local }
    return taskStore(parts, { ...options, ttl: options.ttl ?? this.#ttl })
  }

  taskMessageQueue<M extends QueuedMessage>(): TaskMessageQueue<M> {
    return taskMessageQueue(this.tasks)
  }

  async ready(): Promise<void> {
    this.#assertOpen()
  }

  async ping(): Promise<number> {
    this.#assertOpen()
    return 0
  }

  async health(): Promise<StoreHealth> {
    const warnings = ['Events and sessions are lost when this process ends.']
    if (this.#closed) return { backend: this.backend, ok: false, warnings, error: 'The store is closed.' }
    return { backend: this.backend, ok: true, latencyMs: 0, warnings }
  }

  async stats(): Promise<StoreStats> {
    this.#assertOpen()
    return { sessions: this.sessions.count(), events: this.log.count(), nodes: this.nodes.count() }
  }

  async sweep({ limit = 1000, dryRun = false } = {}): Promise<SweepResult> {
    this.#assertOpen()
    const sessions = this.sessions.sweep(limit, dryRun)
    const events = this.log.sweep(limit, dryRun)
    const nodes = this.nodes.sweep(dryRun)
    const tasks = dryRun ? 0 : this.tasks.sweep(limit)
    return { events, sessions, nodes, more: [events, sessions, tasks].some((count) => count >= limit) }
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #assertOpen(): void {
    if (this.#closed) throw new PersistError('STORE_CLOSED', 'The memory store is closed; open a new one.')
  }
}
