import type { AppRequest } from '../../src/app/app.ts'
import type { PersistOptions } from '../../src/options.ts'
import type { Answer } from '../../src/session/protocol/answer.ts'
import type { SimulatedApp } from './app/app.ts'
import type { Source } from './load-source.ts'
import type { StoreConnection } from './store/connection.ts'
import type { Process, Time } from './time.ts'
import type { Trace } from './trace.ts'

export interface NodeOptions {
  readonly source: Source
  readonly time: Time
  readonly process: Process
  readonly trace: Trace
  readonly app: SimulatedApp
  readonly store: StoreConnection
  readonly options: PersistOptions
}

/** One node: a real engine, in a process that can be stopped and killed, over a line to the store that can fail. */
export class SimulatedNode {
  readonly process: Process
  readonly app: SimulatedApp
  readonly store: StoreConnection
  readonly #time: Time
  readonly #engine: InstanceType<Source['Engine']>
  /** Takes no new clients; those that are connected go on. */
  draining = false
  /** Its drain was over before what ran here was. */
  overdue = false
  /** Nobody can connect any more. */
  closed = false
  /** Told when it is killed: connections break. */
  readonly onKilled = new Set<() => void>()
  /** Client streams that are open here. */
  readonly streams = new Set<object>()
  /** Requests without an answer. */
  readonly #pending = new Set<AppRequest>()

  constructor({ source, time, process, trace, app, store, options }: NodeOptions) {
    this.process = process
    this.app = app
    this.store = store
    this.#time = time
    const say = (level: string) => (facts: object, message: string) => {
      if (trace.on) trace.say(process.name, `${level}: ${message} ${JSON.stringify(facts)}`)
    }
    const logger = { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
    this.#engine = new source.Engine({
      app,
      log: store.log,
      directory: { sessions: store.sessions, nodes: store.nodes, bus: store.bus },
      settings: source.resolveOptions({ ...options, logger }),
      sweep: (limit) => store.sweep(limit),
    })
  }

  get name(): string {
    return this.process.name
  }

  get pending(): number {
    return this.#pending.size
  }

  /** Only in the turn of its process. */
  async handle(request: AppRequest): Promise<Answer> {
    this.#pending.add(request)
    try {
      return await this.#engine.handle(request)
    } finally {
      this.#pending.delete(request)
    }
  }

  /** SIGKILL. */
  kill(): void {
    if (!this.process.alive) return
    this.process.alive = false
    for (const killed of [...this.onKilled]) killed()
    this.onKilled.clear()
    this.streams.clear()
  }

  /** What a deploy does; resolves with the milliseconds that the drain took. Only in the turn of its process. */
  async close(deadline: number): Promise<number> {
    const began = this.#time.now
    this.draining = true
    const isConnected = () => [...this.#pending].some(({ signal }) => !signal?.stopped)
    await this.#engine.drain(deadline, isConnected)
    const took = this.#time.now - began
    this.overdue = took >= deadline
    this.closed = true
    await this.#engine.close()
    return took
  }
}
