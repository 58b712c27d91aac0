import { randomUUID } from 'node:crypto'
import { PersistError } from '../../errors.ts'
import type { TaskTable } from '../port.ts'
import { changeTask, findTask, type QueueEntry } from './task-value.ts'

/** The v1 SDK's `QueuedMessage`, as far as we look at it. */
export interface QueuedMessage {
  type: string
  timestamp: number
}

/** The v1 SDK's `TaskMessageQueue`. */
export interface TaskMessageQueue<M extends QueuedMessage = QueuedMessage> {
  /** Rejects with `OVERLOADED` when the queue holds `maxSize` messages (default {@link QUEUE_LIMIT}). */
  enqueue(taskId: string, message: M, sessionId?: string, maxSize?: number): Promise<void>
  dequeue(taskId: string, sessionId?: string): Promise<M | undefined>
  dequeueAll(taskId: string, sessionId?: string): Promise<M[]>
}

/** Messages of one task that may wait, where the server's `maxTaskQueueSize` does not say. */
export const QUEUE_LIMIT = 1000

/**
 * What a task has to say to its client, in order, each taken at most once by whichever node asks: what `store.taskMessageQueue()`
 * returns, one for each server instance.
 *
 * A request is only given back to the instance that put it there. Every instance numbers its requests from 0 and keeps to
 * itself who waits for the answer; delivered by another, the request would get an answer that resolves another
 * question, or nobody's. So what an instance that is gone had asked is dropped, as a late answer to it would be.
 */
export function taskMessageQueue<M extends QueuedMessage>(tasks: TaskTable): TaskMessageQueue<M> {
  const self = randomUUID()
  const latest = new Map<string, Promise<void>>()
  const meantForUs = ({ from, message }: QueueEntry) =>
    from === self || (message as M).type === 'notification'

  const put = (taskId: string, message: M, sessionId: string | undefined, limit: number) =>
    changeTask(tasks, taskId, sessionId, (value) => {
      if (value.queue.length >= limit) {
        const facts = `The queue of task ${taskId} holds ${value.queue.length} messages`
        throw new PersistError('OVERLOADED', `${facts}, the most that may wait for tasks/result.`)
      }
      return { value: { ...value, queue: [...value.queue, { from: self, message }] } }
    })

  /** Takes from the front up to `count` messages that are meant for us, and what lies before them. */
  async function take(taskId: string, sessionId: string | undefined, count: number): Promise<M[]> {
    // Mostly it is empty, and looking is all there is to do.
    const found = await findTask(tasks, taskId, sessionId)
    if (!found || found.value.queue.length === 0) return []
    let taken: QueueEntry[] = []
    await changeTask(tasks, taskId, sessionId, (value) => {
      taken = value.queue.filter(meantForUs).slice(0, count)
      const last = taken.length < count ? undefined : taken.at(-1)
      const queue = last ? value.queue.slice(value.queue.indexOf(last) + 1) : []
      return value.queue.length === 0 ? undefined : { value: { ...value, queue } }
    })
    return taken.map(({ message }) => message as M)
  }

  return {
    enqueue(taskId, message, sessionId, maxSize = QUEUE_LIMIT) {
      // One after the other: of two at once the second might be stored first. The SDK does not wait for its own.
      const before = latest.get(taskId) ?? Promise.resolve()
      const done = before.then(() => put(taskId, message, sessionId, maxSize)).then(() => {})
      const settled = done
        .catch(() => {})
        .then(() => {
          if (latest.get(taskId) === settled) latest.delete(taskId)
        })
      latest.set(taskId, settled)
      return done
    },

    async dequeue(taskId, sessionId) {
      return (await take(taskId, sessionId, 1))[0]
    },

    dequeueAll: (taskId, sessionId) => take(taskId, sessionId, Number.POSITIVE_INFINITY),
  }
}
