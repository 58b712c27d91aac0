import type { Update } from './stream.ts'

/** Whoever follows a stream of a live session: a client's response in this process, or one at another node. */
export interface Subscriber {
  readonly streamId: string
  /** At another node, which has the log and nothing else to go by. */
  readonly remote: boolean
  /** What is pushed now is written now, or with the response's first byte: nothing waits for the log. */
  readonly live: boolean
  /** The client can come back with what it has got. */
  readonly resumable: boolean
  push(update: Update): void
  opened(): void
  pushUnstored(payload: string, last: boolean): void
  keepAlive(): void
  /** Ends the client's response but not the stream: it will resume, after `retry` ms if that is given. */
  cut(retry?: number): void
  /** The same, when it has everything up to position `at`. */
  cutAfter(at: number, retry?: number): void
  /** Ends the client's response. */
  close(): void
  /** The session leaves this node: whoever can follows it to the next one, the others are cut. */
  moved(retry: number): void
}
