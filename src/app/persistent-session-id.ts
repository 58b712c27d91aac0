import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'

const current = new AsyncLocalStorage<string>()

/**
 * For an app's `sessionIdGenerator`: while a session is rehydrated it answers the id that the client knows, so that
 * `extra.sessionId` stays the same in every process; otherwise a new random UUID.
 *
 * @example
 * new StreamableHTTPServerTransport({ sessionIdGenerator: persistentSessionId })
 */
export function persistentSessionId(): string {
  return current.getStore() ?? randomUUID()
}

let running = 0

/** Runs `work` with `sessionId` as the answer of {@link persistentSessionId}. */
export async function withSessionId<T>(sessionId: string | undefined, work: () => Promise<T>): Promise<T> {
  if (sessionId === undefined) return work()
  running += 1
  try {
    return await current.run(sessionId, work)
  } finally {
    running -= 1
    // While any AsyncLocalStorage is in use, Node 20 tracks every promise of the process: a tenth of a small request.
    if (running === 0) current.disable()
  }
}
