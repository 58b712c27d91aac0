import { randomBytes } from 'node:crypto'
import { PersistError } from '../../errors.ts'
import type { LocalNodes } from '../common/local-nodes.ts'
import { DEFAULT_TTL, type NodeTable, type TaskTable } from '../port.ts'
import {
  changeTask,
  type FoundTask,
  findTask,
  isTerminal,
  noSuchTask,
  readTask,
  type Task,
  type TaskChange,
  type TaskValue,
  writeTask,
} from './task-value.ts'

export type { Task } from './task-value.ts'

export type TaskResult = Record<string, unknown>

export interface TaskStoreOptions {
  /**
   * The longest life of a task, in seconds, from its creation and again from its end. A client may ask for less; "unlimited"
   * means this. Default: the store's `ttl`, else 3600.
   */
  readonly ttl?: number
  /**
   * Fail a task when the process that created it is gone. Default true. False: for tasks that are run elsewhere, by
   * workers that call `storeTaskResult` themselves; then only the ttl ends a task that nobody finishes.
   */
  readonly watch?: boolean
}

/** The v1 SDK's `TaskStore`, as far as we implement it: all of it, but for the request, which is not kept. */
export interface TaskStore<R extends object = TaskResult> {
  createTask(
    params: { ttl?: number | null; pollInterval?: number },
    requestId: string | number,
    request: object,
    sessionId?: string,
  ): Promise<Task>
  getTask(taskId: string, sessionId?: string): Promise<Task | null>
  storeTaskResult(
    taskId: string,
    status: 'completed' | 'failed',
    result: R,
    sessionId?: string,
  ): Promise<void>
  getTaskResult(taskId: string, sessionId?: string): Promise<R>
  updateTaskStatus(
    taskId: string,
    status: Task['status'],
    statusMessage?: string,
    sessionId?: string,
  ): Promise<void>
  listTasks(cursor?: string, sessionId?: string): Promise<{ tasks: Task[]; nextCursor?: string }>
}

export interface TaskStoreParts {
  readonly tasks: TaskTable
  readonly nodes: NodeTable
  readonly local: LocalNodes
}

/** Milliseconds; what a client is told when the tool does not say. */
const POLL_INTERVAL = 1000
const PAGE = 50

const INTERRUPTED =
  'The task was interrupted: the process that ran it ended. It may or may not have taken effect.'

/**
 * Tasks in the store: what `store.taskStore()` returns.
 *
 * Every change is a compare-and-set on the task's version, so that a task that has ended never changes, whoever
 * tries at the same time. A task names the node that runs it; whoever reads a task that has not ended, and whose node is
 * gone, ends it as failed.
 */
export function taskStore<R extends object>(
  { tasks, nodes, local }: TaskStoreParts,
  { ttl: longest = DEFAULT_TTL, watch = true }: TaskStoreOptions,
): TaskStore<R> {
  if (!(longest > 0)) {
    throw new PersistError('INVALID_ARGUMENT', `ttl must be a positive number of seconds, not ${longest}.`)
  }

  /** Ends what nobody runs any more. */
  async function settled({ record, value }: FoundTask): Promise<TaskValue> {
    const { node, task } = value
    if (isTerminal(task) || node === null || local.has(node) || (await nodes.get(node))) return value
    return changeTask(tasks, record.id, undefined, (current) => {
      if (isTerminal(current.task)) return undefined
      const error = { code: -32603, message: INTERRUPTED, data: { reason: 'interrupted' } }
      return ending(current, 'failed', { error }, INTERRUPTED)
    })
  }

  return {
    async createTask({ ttl: asked, pollInterval = POLL_INTERVAL }, _requestId, _request, sessionId) {
      const ttl = asked && asked > 0 ? Math.min(asked, longest * 1000) : longest * 1000
      const now = new Date()
      const at = now.toISOString()
      const taskId = newTaskId(now)
      const task: Task = { taskId, status: 'working', ttl, createdAt: at, lastUpdatedAt: at, pollInterval }
      const node = (watch && local.current) || null
      const value = writeTask({ task, node })
      await tasks.create({ id: taskId, sessionId: sessionId ?? null, value, ttl })
      return task
    },

    async getTask(taskId, sessionId) {
      const found = await findTask(tasks, taskId, sessionId)
      return found ? (await settled(found)).task : null
    },

    async storeTaskResult(taskId, status, result, sessionId) {
      await changeTask(tasks, taskId, sessionId, (value) => {
        refuseIfEnded(value.task, status)
        return ending(value, status, { result })
      })
    },

    async getTaskResult(taskId, sessionId) {
      const found = await findTask(tasks, taskId, sessionId)
      if (!found) throw noSuchTask(taskId)
      const { task, result, error } = await settled(found)
      // The SDK makes the JSON-RPC error of these.
      if (error) throw Object.assign(new Error(error.message), { code: error.code, data: error.data })
      if (result) return result as R
      throw new PersistError('INVALID_ARGUMENT', `Task ${taskId} is ${task.status} and has no result.`)
    },

    async updateTaskStatus(taskId, status, statusMessage, sessionId) {
      await changeTask(tasks, taskId, sessionId, (value) => {
        refuseIfEnded(value.task, status)
        return isTerminal({ ...value.task, status })
          ? ending(value, status, {}, statusMessage)
          : { value: withStatus(value, status, statusMessage) }
      })
    },

    async listTasks(cursor, sessionId) {
      if (cursor !== undefined && !/^[0-9a-f]{44}$/.test(cursor)) {
        throw new PersistError('INVALID_ARGUMENT', 'The cursor does not come from listTasks.')
      }
      const query = { sessionId: sessionId ?? null, limit: PAGE, ...(cursor !== undefined && { cursor }) }
      const { tasks: records, next } = await tasks.list(query)
      // What this release does not read is listed by a process that does.
      const found = records.flatMap((record) => {
        const value = readTask(record)
        return value ? [{ record, value }] : []
      })
      const values = await Promise.all(found.map(settled))
      return { tasks: values.map(({ task }) => task), ...(next !== undefined && { nextCursor: next }) }
    },
  }
}

/** Twelve digits of time, so that id order is about the order of creation, then 128 random bits, so that nobody guesses it. */
function newTaskId(now: Date): string {
  return now.getTime().toString(16).padStart(12, '0') + randomBytes(16).toString('hex')
}

function withStatus(value: TaskValue, status: Task['status'], statusMessage?: string): TaskValue {
  const task = { ...value.task, status, lastUpdatedAt: new Date().toISOString() }
  return { ...value, task: statusMessage ? { ...task, statusMessage } : task }
}

/** Its result can be fetched for a whole ttl from now. */
function ending(
  value: TaskValue,
  status: Task['status'],
  outcome: Pick<TaskValue, 'result' | 'error'>,
  statusMessage?: string,
): TaskChange {
  const ttl = value.task.ttl === null ? {} : { ttl: value.task.ttl }
  return { value: { ...withStatus(value, status, statusMessage), ...outcome }, ...ttl }
}

function refuseIfEnded(task: Task, status: Task['status']): void {
  if (!isTerminal(task)) return
  const facts = `Task ${task.taskId} is ${task.status} and cannot become ${status}`
  throw new PersistError('INVALID_ARGUMENT', `${facts}: a task that has ended does not change.`)
}
