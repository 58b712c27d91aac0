import { InMemoryEventStore } from './in-memory-event-store.ts'
import type { SessionOptions } from './sdk-lines.ts'

export function transportOptions({ generateId, onOpen, eventStore, json }: SessionOptions) {
  return {
    sessionIdGenerator: generateId,
    onsessioninitialized: onOpen,
    enableJsonResponse: json,
    ...(eventStore && { eventStore: new InMemoryEventStore(), retryInterval: 20 }),
  }
}
