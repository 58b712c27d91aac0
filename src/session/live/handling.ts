import type { AppRequest, HeaderPairs } from '../../app/app.ts'
import type { StopSignal } from '../../stop.ts'
import type { Answer } from '../protocol/answer.ts'
import type { Principals } from '../protocol/principal.ts'
import type { RemoteSide } from '../streams/remote-subscriber.ts'
import type { StreamRef } from '../streams/stream.ts'
import type { Made } from './session-left.ts'

/** An HTTP request for a session, wherever it comes from. */
export interface SessionRequest {
  readonly sessionId: string
  /** Where it has come to; left out where another node has forwarded it, which has looked at that. */
  readonly endpoint?: string | undefined
  /** Who asks. */
  readonly principal: Principals
  /** Where the answer goes in the log, if it is a stream. */
  readonly streamId: string
  /** It may have been made before, at an owner that is gone now: look into the log first. */
  readonly again: Made | undefined
  readonly request: AppRequest
  /** Said when the client has gone; at another node than the client's that may take a moment. */
  readonly gone?: StopSignal | undefined
  /** Set when another node has forwarded it. */
  readonly remote?: RemoteSide
}

export type Handling = Pick<SessionRequest, 'principal' | 'streamId' | 'again' | 'gone' | 'remote'>

/** Does somebody wait for the answer? A node that died says of none of its clients that they have gone. */
export function isAwaited({ gone, remote }: Pick<Handling, 'gone' | 'remote'>): boolean {
  return !gone?.stopped && remote?.isWaiting() !== false
}

/** To a client of this process the owner answers with a tail; to another node with where to follow the stream. */
export type OwnerAnswer =
  | Answer
  | { readonly status: number; readonly headers: HeaderPairs; readonly stream: StreamRef }

/** The session is not here (any more). What the app may have been told of the request: nothing (`moved`), or see `Made`. */
export type Elsewhere = 'moved' | Made
