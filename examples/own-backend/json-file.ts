// Where the backend keeps everything: one JSON file, written whole. All changes of one turn of the event loop are written
// together, one write after the other; a change is acknowledged when it is in the file.
import { readFile, rename, writeFile } from 'node:fs/promises'
import {
  GroupCommit,
  type OpenStream,
  type Outcome,
  PersistError,
  type SessionState,
  type StoredEvent,
} from 'mcp-persist/backend'

export interface Session {
  principal: string | null
  state: SessionState
  owner: string | null
  delivered: number
  readonly createdAt: number
  lastUsedAt: number
  readonly ttl: number
}

/** A session's log; its record lives and dies with it. */
export interface Log {
  readonly epoch: string
  /** 0: without a session record, and so not fenced. */
  generation: number
  last: number
  floor: number
  expiresAt: number
  events: (StoredEvent & { readonly expiresAt: number })[]
  open: OpenStream[]
  readonly session: Session | null
}

export interface Task {
  readonly sessionId: string | null
  version: number
  value: string
  expiresAt: number
  queue: string[]
}

/** What a key of an expiring map leads to, unless its time is over. */
export function live<T extends { readonly expiresAt: number }>(
  map: Map<string, T>,
  id: string,
): T | undefined {
  const found = map.get(id)
  return found && found.expiresAt > Date.now() ? found : undefined
}

export class JsonFile {
  readonly logs = new Map<string, Log>()
  readonly tasks = new Map<string, Task>()
  readonly tombstones = new Map<string, { readonly expiresAt: number }>()
  readonly #path: string
  readonly #changes = new GroupCommit<() => unknown, unknown>((changes) => this.#apply(changes))
  #loading: Promise<void> | undefined
  #closed = false

  constructor(path: string) {
    this.#path = path
  }

  async ready(): Promise<void> {
    if (this.#closed) throw new PersistError('STORE_CLOSED', 'The JSON file is closed; open a new store.')
    this.#loading ??= this.#load()
    await this.#loading
  }

  /** Resolves with what `look` finds. */
  async read<R>(look: () => R): Promise<R> {
    await this.ready()
    return look()
  }

  /** Resolves once what `change` has done is in the file; what it throws is refused alone. */
  async write<R>(change: () => R): Promise<R> {
    await this.ready()
    return (await this.#changes.add(change)) as R
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#changes.settled()
  }

  async #apply(changes: readonly (() => unknown)[]): Promise<readonly Outcome<unknown>[]> {
    const outcomes = changes.map((change): Outcome<unknown> => {
      try {
        return { ok: change() }
      } catch (error) {
        return { error }
      }
    })
    const text = JSON.stringify({
      logs: [...this.logs],
      tasks: [...this.tasks],
      tombstones: [...this.tombstones],
    })
    try {
      await writeFile(`${this.#path}.new`, text)
      await rename(`${this.#path}.new`, this.#path)
    } catch (cause) {
      throw new PersistError('STORE_UNAVAILABLE', 'The JSON file cannot be written.', { cause })
    }
    return outcomes
  }

  async #load(): Promise<void> {
    const text = await readFile(this.#path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '{"logs":[],"tasks":[],"tombstones":[]}'
      throw new PersistError('STORE_UNAVAILABLE', 'The JSON file cannot be read.', { cause: error })
    })
    const { logs, tasks, tombstones } = JSON.parse(text)
    for (const [id, log] of logs) this.logs.set(id, log)
    for (const [id, task] of tasks) this.tasks.set(id, task)
    for (const [id, tombstone] of tombstones) this.tombstones.set(id, tombstone)
  }
}
