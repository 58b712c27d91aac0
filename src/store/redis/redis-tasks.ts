import { taskExists } from '../common/refusals.ts'
import type { Pushed, TaskPage, TaskRecord, TaskTable } from '../port.ts'
import { READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import { CREATE_TASK, LIST_TASK, PUSH_TASK, REPLACE_TASK, SHIFT_TASK } from './scripts/task.ts'

/** Entries of its session's list that each new task looks at, so that the list grows no longer than what lives. */
const TIDIED = 2

/**
 * A task is a key that expires by itself, and stands in a list of its session. The entry is written after the task and
 * outlives it; whoever finds such an entry drops it.
 */
export class RedisTasks implements TaskTable {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  async create(task: { id: string; sessionId: string | null; value: string; ttl: number }): Promise<void> {
    this.#connection.assertOpen()
    const { id, sessionId, value, ttl } = task
    const args = [value, Math.ceil(ttl), ...(sessionId === null ? [] : [sessionId])]
    const made = await this.#connection.eval(CREATE_TASK, this.#keys.task(id), args)
    if (made === 0) throw taskExists(id)
    await this.#keepListed(id, sessionId, ttl)
    await Promise.all((await this.#ids(sessionId, '', TIDIED)).map((each) => this.#find(each, sessionId)))
  }

  async get(id: string): Promise<TaskRecord | undefined> {
    this.#connection.assertOpen()
    return this.#get(id)
  }

  async #get(id: string): Promise<TaskRecord | undefined> {
    const fields = [this.#keys.task(id)[0], 'session', 'version', 'value']
    const answer = await this.#connection.call('hmget', fields, READS)
    const [sessionId, version, value] = answer as (string | null)[]
    if (version == null || value == null) return undefined
    return { id, sessionId: sessionId ?? null, version: Number(version), value }
  }

  async replace(id: string, { version, value, ttl }: { version: number; value: string; ttl?: number }) {
    this.#connection.assertOpen()
    const args = [version, value, ttl === undefined ? '' : Math.ceil(ttl)]
    const replaced = (await this.#connection.eval(REPLACE_TASK, this.#keys.task(id), args)) === 1
    if (replaced && ttl !== undefined) {
      const task = await this.#get(id)
      if (task) await this.#keepListed(id, task.sessionId, ttl)
    }
    return replaced
  }

  async list({ sessionId, cursor = '', limit }: Parameters<TaskTable['list']>[0]): Promise<TaskPage> {
    this.#connection.assertOpen()
    const tasks: TaskRecord[] = []
    for (let after = cursor; ; ) {
      const ids = await this.#ids(sessionId, after, limit + 1)
      const found = await Promise.all(ids.map((id) => this.#find(id, sessionId)))
      tasks.push(...found.filter((task) => task !== undefined))
      if (tasks.length > limit) return { tasks: tasks.slice(0, limit), next: tasks[limit - 1]!.id }
      if (ids.length <= limit) return { tasks }
      after = ids.at(-1)!
    }
  }

  async push(id: string, { text, limit, sessionId }: Parameters<TaskTable['push']>[1]): Promise<Pushed> {
    this.#connection.assertOpen()
    const args = [limit, text, ...(sessionId === undefined ? [] : [sessionId])]
    return (await this.#connection.eval(PUSH_TASK, this.#keys.task(id), args)) as Pushed
  }

  async shift(id: string, { limit, sessionId }: { limit: number; sessionId?: string }) {
    this.#connection.assertOpen()
    const args = [limit, ...(sessionId === undefined ? [] : [sessionId])]
    return (await this.#connection.eval(SHIFT_TASK, this.#keys.task(id), args)) as string[]
  }

  async #ids(sessionId: string | null, after: string, limit: number): Promise<string[]> {
    const range = [this.#keys.taskList(sessionId), after === '' ? '-' : `(${after}`, '+', 'LIMIT', 0, limit]
    return (await this.#connection.call('zrangebylex', range, READS)) as string[]
  }

  async #find(id: string, sessionId: string | null): Promise<TaskRecord | undefined> {
    const task = await this.#get(id)
    if (!task) await this.#connection.call('zrem', [this.#keys.taskList(sessionId), id], REPEATABLE)
    return task
  }

  async #keepListed(id: string, sessionId: string | null, ttl: number): Promise<void> {
    // A second more, so that the list does not go before its last task.
    const args = [id, Math.ceil(ttl) + 1000]
    await this.#connection.eval(LIST_TASK, [this.#keys.taskList(sessionId)], args, REPEATABLE)
  }
}
