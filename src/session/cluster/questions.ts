import type { AppRequest, HeaderPairs, Remote } from '../../app/app.ts'
import { portableAuthInfo } from '../../app/auth-info.ts'
import { parseJson } from '../../json.ts'
import type { Made } from '../live/session-left.ts'
import type { Principals } from '../protocol/principal.ts'
import type { StreamRef } from '../streams/stream.ts'
import type { Said } from './exchange.ts'

/** What one node asks of another. The body of a request travels beside it. */
export type Question = RequestQuestion | FollowQuestion

/** An HTTP request for a session that the other node owns. */
export interface RequestQuestion {
  readonly kind: 'request'
  readonly sessionId: string
  readonly principal: Principals
  /** Where the answer goes in the log, picked by the node that asks. */
  readonly streamId: string
  /** The request may have reached an owner that is gone now: look into the log first. */
  readonly again?: Made | undefined
  /** The session may be nobody's: take it. */
  readonly take?: true
  readonly request: WireRequest
}

/** The node that asks serves a client's stream, and its owner until now is gone or has given the session up. */
export interface FollowQuestion {
  readonly kind: 'follow'
  readonly sessionId: string
  readonly streamId: string
  /** Who follows: the owner may have the session in the store without having it in memory. */
  readonly principal: Principals
  /** The session may be nobody's: take it. */
  readonly take?: true
  readonly request: WireRequest
}

export type Reply =
  /** Not the owner (any more): ask the store who is. `again`: the app may have been told of the request. */
  | { readonly kind: 'moved'; readonly again?: Made | undefined }
  | { readonly kind: 'answer'; readonly status: number; readonly headers: HeaderPairs }
  | {
      readonly kind: 'stream'
      readonly status: number
      readonly headers: HeaderPairs
      readonly stream: StreamRef
    }
  /** It is followed from now on; what came before is in the log. `finite`: nothing more will come. */
  | { readonly kind: 'following'; readonly finite: boolean }
  /** There is no such session for that caller. */
  | { readonly kind: 'missing' }
  /** Its client is to come again. */
  | { readonly kind: 'cut'; readonly retry?: number | undefined }

export interface WireRequest {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly lines?: AppRequest['lines']
  readonly remote?: Remote | undefined
  readonly authInfo?: unknown
}

export function toWire({ method, url, headers, lines, remote, authInfo }: AppRequest): WireRequest {
  return {
    method,
    url,
    headers,
    ...(lines && { lines }),
    ...(remote && { remote }),
    ...(authInfo !== undefined && { authInfo }),
  }
}

export function fromWire({ authInfo, ...wire }: WireRequest, body?: Uint8Array): AppRequest {
  const request = authInfo === undefined ? wire : { ...wire, authInfo: portableAuthInfo(authInfo) }
  return body ? { ...request, body, parsed: parseJson(body) } : request
}

export function say(content: Question | Reply, body?: Uint8Array): Said {
  return body ? { content, body } : { content }
}
