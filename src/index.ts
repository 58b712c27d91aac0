export type { FactoryContext, ServerFactory } from './app/factory-app.ts'
export { persistentSessionId } from './app/persistent-session-id.ts'
export type { WrappableApp } from './app/resolve-app.ts'
export type { StdioServer } from './app/stdio/stdio-app.ts'
export type { Clock } from './clock.ts'
export { type ErrorCode, PersistError } from './errors.ts'
export type { FetchOptions } from './http/serve-fetch.ts'
export type { Logger } from './logger.ts'
export type { AuthInfo, PersistOptions, PrincipalRequest, Refusal } from './options.ts'
export { MemoryEventStore, type MemoryEventStoreOptions } from './store/memory/memory-store.ts'
export type { MigrationTarget } from './store/migrations/target.ts'
export { type OpenStoreOptions, openStore } from './store/open-store.ts'
export type {
  Backend,
  GapReason,
  SessionEventStore,
  SessionEventStoreOptions,
  SessionPage,
  SessionRecord,
  SessionState,
  StoreHealth,
  StoreStats,
  SweepResult,
} from './store/port.ts'
export type { PostgresPool } from './store/postgres/postgres-driver.ts'
export { PostgresEventStore, type PostgresEventStoreOptions } from './store/postgres/postgres-store.ts'
export type { RedisClientLike } from './store/redis/redis-client.ts'
export { RedisEventStore, type RedisEventStoreOptions } from './store/redis/redis-store.ts'
export type { ServerEventBus } from './store/sdk/server-event-bus.ts'
export type { QueuedMessage, TaskMessageQueue } from './store/sdk/task-message-queue.ts'
export type { Task, TaskResult, TaskStore, TaskStoreOptions } from './store/sdk/task-store.ts'
export { SqliteEventStore, type SqliteEventStoreOptions } from './store/sqlite/sqlite-store.ts'
export type { SdkFaces, Store } from './store/store.ts'
export { type PersistentHandler, withPersistence } from './with-persistence.ts'
