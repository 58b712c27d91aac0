import { type Pushed, type TaskPage, type TaskRecord, type TaskTable, taskExists } from 'mcp-persist/backend'
import { type JsonFile, live, type Task } from './json-file.ts'

export class FileTasks implements TaskTable {
  readonly #file: JsonFile

  constructor(file: JsonFile) {
    this.#file = file
  }

  create(task: { id: string; sessionId: string | null; value: string; ttl: number }): Promise<void> {
    const { id, ttl, ...given } = task
    return this.#file.write(() => {
      if (live(this.#file.tasks, id)) throw taskExists(id)
      this.#file.tasks.set(id, { ...given, version: 1, expiresAt: Date.now() + ttl, queue: [] })
    })
  }

  get(id: string): Promise<TaskRecord | undefined> {
    return this.#file.read(() => {
      const task = live(this.#file.tasks, id)
      return task && record(id, task)
    })
  }

  replace(id: string, change: { version: number; value: string; ttl?: number }): Promise<boolean> {
    return this.#file.write(() => {
      const task = live(this.#file.tasks, id)
      if (task?.version !== change.version) return false
      task.version += 1
      task.value = change.value
      if (change.ttl !== undefined) task.expiresAt = Date.now() + change.ttl
      return true
    })
  }

  list({ sessionId, cursor = '', limit }: Parameters<TaskTable['list']>[0]): Promise<TaskPage> {
    return this.#file.read(() => {
      const all = [...this.#file.tasks.keys()].sort().flatMap((id) => {
        const task = id > cursor ? live(this.#file.tasks, id) : undefined
        return task?.sessionId === sessionId ? [record(id, task)] : []
      })
      const tasks = all.slice(0, limit)
      return all.length > limit ? { tasks, next: tasks.at(-1)!.id } : { tasks }
    })
  }

  push(id: string, { text, limit, sessionId }: Parameters<TaskTable['push']>[1]): Promise<Pushed> {
    return this.#file.write(() => {
      const task = this.#of(id, sessionId)
      if (!task) return 'absent'
      if (task.queue.length >= limit) return 'full'
      task.queue.push(text)
      return 'queued'
    })
  }

  shift(id: string, { limit, sessionId }: Parameters<TaskTable['shift']>[1]): Promise<readonly string[]> {
    return this.#file.write(() => this.#of(id, sessionId)?.queue.splice(0, limit) ?? [])
  }

  /** The task, unless it is another session's. */
  #of(id: string, sessionId: string | undefined): Task | undefined {
    const task = live(this.#file.tasks, id)
    const isTheirs = sessionId === undefined || task?.sessionId === null || task?.sessionId === sessionId
    return isTheirs ? task : undefined
  }
}

function record(id: string, { sessionId, version, value }: Task): TaskRecord {
  return { id, sessionId, version, value }
}
