import type { AppRequest, HeaderPairs } from '../../app/app.ts'
import type { Answer } from '../protocol/answer.ts'
import type { RemoteSide } from '../streams/remote-subscriber.ts'
import type { StreamRef } from '../streams/stream.ts'

/** An HTTP request for a session, wherever it comes from. */
export interface SessionRequest {
  readonly sessionId: string
  readonly principal: string | null
  /** Where the answer goes in the log, if it is a stream. */
  readonly streamId: string
  /** It may have been made before, at an owner that is gone now: look into the log first. */
  readonly again: boolean
  readonly request: AppRequest
  /** Set when another node has forwarded it. */
  readonly remote?: RemoteSide
}

export type Handling = Pick<SessionRequest, 'streamId' | 'again' | 'remote'>

/** To a client of this process the owner answers with a tail; to another node with where to follow the stream. */
export type OwnerAnswer =
  | Answer
  | { readonly status: number; readonly headers: HeaderPairs; readonly stream: StreamRef }
