import { randomUUID } from 'node:crypto'
import { PersistError } from '../../errors.ts'
import type { TaskTable } from '../port.ts'
import { noSuchTask } from './task-value.ts'

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

/** What a message is stored as. */
interface QueueEntry {
  /** The queue object that put it there: one server instance, whose request ids mean nothing to another. */
  readonly from: string
  readonly message: object
}

/** Messages fetched at a time when all are wanted: the bound on one answer of the store. */
const PAGE = 100

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

  async function put(taskId: string, message: M, sessionId: string | undefined, limit: number) {
    const text = JSON.stringify({ from: self, message } satisfies QueueEntry)
    const pushed = await tasks.push(taskId, { text, limit, ...ofSession(sessionId) })
    if (pushed === 'absent') throw noSuchTask(taskId)
    if (pushed === 'queued') return
    const facts = `The queue of task ${taskId} holds ${limit} messages`
    throw new PersistError('OVERLOADED', `${facts}, which is the limit until tasks/result is asked for.`)
  }

  /** Takes messages from the front; those of other instances are dropped. */
  async function take(taskId: string, sessionId: string | undefined, limit: number) {
    const texts = await tasks.shift(taskId, { limit, ...ofSession(sessionId) })
    const entries = texts.map((text) => JSON.parse(text) as QueueEntry)
    const messages = entries.filter(meantForUs).map(({ message }) => message as M)
    return { messages, isLast: texts.length < limit }
  }

  return {
    enqueue(taskId, message, sessionId, maxSize = QUEUE_LIMIT) {
      // One after the other: of two at once the second might be stored first. The SDK does not wait for its own.
      const before = latest.get(taskId) ?? Promise.resolve()
      const done = before.then(() => put(taskId, message, sessionId, maxSize))
      const settled = done
        .catch(() => {})
        .then(() => {
          if (latest.get(taskId) === settled) latest.delete(taskId)
        })
      latest.set(taskId, settled)
      return done
    },

    async dequeue(taskId, sessionId) {
      for (;;) {
        const { messages, isLast } = await take(taskId, sessionId, 1)
        if (messages[0] || isLast) return messages[0]
      }
    },

    async dequeueAll(taskId, sessionId) {
      const found: M[] = []
      for (;;) {
        const { messages, isLast } = await take(taskId, sessionId, PAGE)
        found.push(...messages)
        if (isLast) return found
      }
    },
  }
}

function ofSession(sessionId: string | undefined) {
  return sessionId === undefined ? {} : { sessionId }
}
