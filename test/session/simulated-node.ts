import { resolveOptions } from '../../src/options.ts'
import { Engine } from '../../src/session/engine.ts'
import type { Answer } from '../../src/session/protocol/answer.ts'
import type { Store } from '../../src/store/store.ts'
import { type Runs, SimulatedApp } from './simulated-app.ts'

/** Seconds. */
export const LEASE = 0.3

/** One node of a simulated cluster: a real engine whose way to the store can be held up, cut, or lossy. */
export class SimulatedNode {
  readonly #app: SimulatedApp
  readonly #engine: Engine
  #gate: Promise<void> = Promise.resolve()
  #open: (() => void) | undefined
  dead = false
  leaving = false

  constructor(store: Store, runs: Runs, lose: () => boolean) {
    this.#app = new SimulatedApp(runs)
    const through = <T extends object>(facet: T): T =>
      new Proxy(facet, {
        get: (target, name) => {
          const method = Reflect.get(target, name) as (...args: unknown[]) => unknown
          return async (...args: unknown[]) => {
            await this.#pass()
            if ((name === 'publish' || name === 'send') && lose()) return true
            if (name === 'send' && lose()) void Reflect.apply(method, target, args)
            const result = await Reflect.apply(
              method,
              target,
              args.map((arg) => this.#held(arg)),
            )
            // An answer that comes while the process is stopped is read when it goes on.
            await this.#pass()
            return result
          }
        },
      })
    const quiet = { debug() {}, info() {}, warn() {}, error() {} }
    this.#engine = new Engine({
      app: this.#app,
      log: through(store.log),
      directory: { sessions: through(store.sessions), nodes: through(store.nodes), bus: through(store.bus) },
      settings: resolveOptions({ ttl: 600, lease: LEASE, keepAlive: 0, logger: quiet }),
      sweep: async () => false,
    })
  }

  handle(request: Parameters<Engine['handle']>[0]): Promise<Answer> {
    return this.dead ? new Promise(() => {}) : this.#engine.handle(request)
  }

  /** SIGSTOP, as far as the store and the other nodes can tell. */
  pause(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve
    })
  }

  resume(): void {
    this.#open?.()
    this.#gate = Promise.resolve()
  }

  /** SIGKILL: nothing it asks is answered, nothing that it is told is heard. */
  kill(): void {
    this.dead = true
    this.#app.crashed = true
    this.#gate = new Promise(() => {})
  }

  async close(): Promise<void> {
    if (this.dead) return
    this.leaving = true
    await this.#engine.drain(1000, () => false)
    await this.#engine.close()
  }

  async #pass(): Promise<void> {
    for (let gate: Promise<void> | undefined; gate !== this.#gate; ) {
      gate = this.#gate
      await gate
    }
  }

  /** Callbacks given to the store wait at the same gate. */
  #held(arg: unknown): unknown {
    if (typeof arg !== 'function') return arg
    return async (...args: unknown[]) => {
      await this.#pass()
      return Reflect.apply(arg, undefined, args)
    }
  }
}

/** Two nodes between which nothing is lost. */
export function twoNodes(store: Store, runs: Runs): [SimulatedNode, SimulatedNode] {
  const node = () => new SimulatedNode(store, runs, () => false)
  return [node(), node()]
}
