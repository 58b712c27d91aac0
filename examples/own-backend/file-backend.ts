// A backend of one's own: everything in one JSON file, for one process. It imports the package alone, and passes the contract.
import {
  type Backend,
  createStore,
  type Store,
  type StoreHealth,
  type StoreStats,
  type SweepResult,
} from 'mcp-persist/backend'
import { JsonFile, live } from './json-file.ts'
import { countExpired, drop, FileLog } from './log.ts'
import { LocalNetwork } from './network.ts'
import { FileSessions } from './sessions.ts'
import { FileTasks } from './tasks.ts'

export class FileBackend implements Backend {
  readonly backend = 'json-file'
  readonly traits = { durable: true, reach: 'process', detectsDeadNodes: false } as const
  readonly #file: JsonFile
  readonly #network: LocalNetwork
  readonly log: FileLog
  readonly sessions: FileSessions
  readonly tasks: FileTasks

  constructor(path: string) {
    this.#file = new JsonFile(path)
    this.#network = new LocalNetwork(this.#file)
    this.log = new FileLog(this.#file)
    this.sessions = new FileSessions(this.#file, this.#network)
    this.tasks = new FileTasks(this.#file)
  }

  get nodes() {
    return this.#network.nodes
  }

  get bus() {
    return this.#network.bus
  }

  ready(): Promise<void> {
    return this.#file.ready()
  }

  ping(): Promise<number> {
    return this.#file.read(() => 0)
  }

  async health(): Promise<StoreHealth> {
    const { backend } = this
    const warnings = ['The file is written whole at every change.']
    const error = await this.ready().then(
      () => undefined,
      (reason: Error) => reason.message,
    )
    return error === undefined ? { backend, ok: true, warnings } : { backend, ok: false, warnings, error }
  }

  stats(): Promise<StoreStats> {
    return this.#file.read(() => {
      const logs = [...this.#file.logs].filter(([id]) => live(this.#file.logs, id)).map(([, log]) => log)
      const events = [...this.#file.logs.values()].reduce((sum, log) => sum + log.events.length, 0)
      return { sessions: logs.filter((log) => log.session).length, events, nodes: this.#network.count() }
    })
  }

  sweep({ limit = 1000, dryRun = false } = {}): Promise<SweepResult> {
    const sweep = () => {
      let [events, sessions] = [0, 0]
      for (const [id, log] of this.#file.logs) {
        const isDead = !live(this.#file.logs, id)
        const due = isDead ? log.events.length : countExpired(log)
        const count = Math.min(due, limit - events)
        events += count
        if (!dryRun) drop(log, count)
        if (!isDead || count < due || sessions >= limit) continue
        if (log.session) sessions += 1
        if (!dryRun) this.#file.logs.delete(id)
      }
      for (const map of dryRun ? [] : [this.#file.tombstones, this.#file.tasks]) {
        for (const id of map.keys()) if (!live<{ expiresAt: number }>(map, id)) map.delete(id)
      }
      const nodes = this.#network.sweep(dryRun)
      return { events, sessions, nodes, more: events >= limit || sessions >= limit }
    }
    return dryRun ? this.#file.read(sweep) : this.#file.write(sweep)
  }

  async close(): Promise<void> {
    this.#network.close()
    await this.#file.close()
  }
}

/** What `withPersistence` takes. */
export function fileStore(path: string): Store {
  return createStore(new FileBackend(path), { ttl: 3600 })
}
