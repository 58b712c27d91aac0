import { type Clock, systemClock } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { Backend, StoreHealth, StoreStats, SweepResult } from '../port.ts'
import { BackendStore } from '../store.ts'
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

/** The parts of the memory store. A method runs to its end in one turn of the event loop: that makes it atomic. */
class MemoryBackend implements Backend {
  readonly backend = 'memory'
  readonly traits = { durable: false, reach: 'process', detectsDeadNodes: false } as const
  readonly log: MemoryLog
  readonly nodes: MemoryNodes
  readonly sessions: MemorySessions
  readonly bus: MemoryBus
  readonly tasks: MemoryTasks
  readonly transfer: MemoryTransfer
  #closed = false

  constructor(clock: Clock) {
    const assertOpen = () => this.#assertOpen()
    this.log = new MemoryLog(clock, assertOpen)
    this.nodes = new MemoryNodes(clock, assertOpen)
    this.sessions = new MemorySessions(clock, this.log, this.nodes, assertOpen)
    this.bus = new MemoryBus(this.nodes, assertOpen)
    this.tasks = new MemoryTasks(clock, assertOpen)
    this.transfer = new MemoryTransfer(this.log, this.sessions, assertOpen)
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
    this.bus.close()
  }

  #assertOpen(): void {
    if (this.#closed) throw new PersistError('STORE_CLOSED', 'The memory store is closed; open a new one.')
  }
}

/**
 * Everything in this process's memory: the shortest correct backend, the reference for the others, and good for
 * tests and for streams that need not outlive the process.
 *
 * @example
 * const store = new MemoryEventStore()
 * const eventStore = store.forSession('session-1')
 */
export class MemoryEventStore extends BackendStore {
  constructor(options: MemoryEventStoreOptions = {}) {
    super(new MemoryBackend(options.clock ?? systemClock), options)
  }
}
