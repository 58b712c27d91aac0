import { defaultLogger, type Logger } from '../logger.ts'
import { warnOfOtherUnit } from '../units.ts'
import { AnnouncedSessions } from './common/announced-sessions.ts'
import { LocalNodes } from './common/local-nodes.ts'
import { positive } from './common/options.ts'
import type { Backend, SessionEventStore, SessionEventStoreOptions, Transfer } from './port.ts'
import { DEFAULT_TTL } from './port.ts'
import { type ServerEventBus, serverEventBus } from './sdk/server-event-bus.ts'
import { sessionEventStore } from './sdk/session-event-store.ts'
import { type QueuedMessage, type TaskMessageQueue, taskMessageQueue } from './sdk/task-message-queue.ts'
import { type TaskResult, type TaskStore, type TaskStoreOptions, taskStore } from './sdk/task-store.ts'

/** What the SDKs want of a store: the same for every backend, because it is built on the port. */
export interface SdkFaces {
  /** The SDK's `EventStore` for one session. A store itself is not one: streams of different sessions share names. */
  forSession(sessionId: string, options?: SessionEventStoreOptions): SessionEventStore
  /** The v2 SDK's bus for `createMcpHandler({ bus })`: change events reach the listeners of every node. */
  serverEventBus<E extends object>(): ServerEventBus<E>
  /** The v1 SDK's `taskStore` (experimental): tasks are known to every node, and outlive their session's owner. */
  taskStore<R extends object = TaskResult>(options?: TaskStoreOptions): TaskStore<R>
  /** The v1 SDK's `taskMessageQueue`, for tasks of {@link SdkFaces.taskStore}. Each server instance needs one of its own. */
  taskMessageQueue<M extends QueuedMessage>(): TaskMessageQueue<M>
}

/** `await using store = openStore(...)` closes it at the end of its block. */
export type Store = Backend & SdkFaces & AsyncDisposable

export interface CreateStoreOptions {
  /** Seconds that `forSession()` keeps events, and the longest life of a task. Default 3600. */
  readonly ttl?: number | undefined
  /** Where it is reported that a server event was not carried. Default: one line on stderr. */
  readonly logger?: Logger | undefined
}

/**
 * Makes a store of a backend: what `withPersistence` takes, with the SDKs' faces. The stores of this package are made
 * so, and so is one of your own.
 *
 * @throws PersistError `INVALID_ARGUMENT` when `ttl` is no positive number.
 * @example
 * const store = createStore(new MyBackend('data.json'), { ttl: 600 })
 * withPersistence(app, store, 600).listen(3000)
 */
export function createStore(backend: Backend, options: CreateStoreOptions = {}): Store {
  return new BackendStore(backend, options)
}

/** A backend with the SDKs' faces: its nodes are remembered, and its terminations announced. */
export class BackendStore implements Store {
  readonly backend: string
  readonly traits: Backend['traits']
  readonly log: Backend['log']
  readonly sessions: Backend['sessions']
  readonly nodes: Backend['nodes']
  readonly bus: Backend['bus']
  readonly tasks: Backend['tasks']
  readonly transfer?: Transfer
  readonly #backend: Backend
  readonly #local: LocalNodes
  readonly #ttl: number
  readonly #logger: Logger

  constructor(backend: Backend, { ttl = DEFAULT_TTL, logger = defaultLogger }: CreateStoreOptions) {
    positive('ttl', ttl)
    warnOfOtherUnit(logger, { seconds: { ttl } })
    this.#backend = backend
    this.#ttl = ttl
    this.#logger = logger
    this.#local = new LocalNodes(backend.nodes)
    this.backend = backend.backend
    this.traits = backend.traits
    this.log = backend.log
    this.sessions = new AnnouncedSessions(backend.sessions, backend.bus)
    this.nodes = this.#local
    this.bus = backend.bus
    this.tasks = backend.tasks
    if (backend.transfer) this.transfer = backend.transfer
  }

  forSession(sessionId: string, options: SessionEventStoreOptions = {}): SessionEventStore {
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

  ready() {
    return this.#backend.ready()
  }

  ping() {
    return this.#backend.ping()
  }

  health() {
    return this.#backend.health()
  }

  stats() {
    return this.#backend.stats()
  }

  sweep(options?: { limit?: number; dryRun?: boolean }) {
    return this.#backend.sweep(options)
  }

  close() {
    return this.#backend.close()
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}
