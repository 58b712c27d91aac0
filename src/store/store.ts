import type { Backend, SessionEventStore, SessionEventStoreOptions } from './port.ts'
import type { ServerEventBus } from './sdk/server-event-bus.ts'
import type { QueuedMessage, TaskMessageQueue } from './sdk/task-message-queue.ts'
import type { TaskResult, TaskStore, TaskStoreOptions } from './sdk/task-store.ts'

/** What the SDKs want of a store: the same for every backend, because it is built on the port. */
export interface SdkFaces {
  /** The SDK's `EventStore` for one session. A store itself is not one: streams of different sessions share names. */
  forSession(sessionId: string, options?: SessionEventStoreOptions): SessionEventStore
  /** The v2 SDK's bus for `createMcpHandler({ bus })`: change events reach the listeners of every node. */
  serverEventBus<E extends object>(): ServerEventBus<E>
  /** The v1 SDK's `taskStore` (experimental): tasks are known to every node, and outlive their session's owner. */
  taskStore<R extends object = TaskResult>(options?: TaskStoreOptions): TaskStore<R>
  /** The v1 SDK's `taskMessageQueue`, for tasks of {@link SdkFaces.taskStore}. Each server instance needs one of its own. */
  taskMessageQueue<M extends QueuedMessage>(): TaskMessageQueue<M>
}

export type Store = Backend & SdkFaces
