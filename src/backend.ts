/** What a backend of somebody else's is made with: the port, what all backends share, and how a store is made of one. */
export { type ErrorCode, isPersistError, PersistError } from './errors.ts'
export type { Logger } from './logger.ts'
export { nextGeneration } from './store/common/generation.ts'
export {
  GroupCommit,
  type GroupCommitOptions,
  MAX_BATCH_BYTES,
  MAX_WAITING,
  MAX_WAITING_BYTES,
  type Outcome,
} from './store/common/group-commit.ts'
export { allPositive, driverMissing, positive } from './store/common/options.ts'
export {
  fenced,
  gone,
  refuseTooLong,
  taken,
  taskExists,
  terminated,
  tooMany,
} from './store/common/refusals.ts'
export { type Cursor, formatEventId, parseEventId } from './store/event-id.ts'
export type * from './store/port.ts'
export { DEFAULT_TTL, MESSAGE_LIMIT, nodeChannel } from './store/port.ts'
export { type ReplayOptions, type ResumePoint, replay } from './store/replay.ts'
export { type CreateStoreOptions, createStore, type SdkFaces, type Store } from './store/store.ts'
