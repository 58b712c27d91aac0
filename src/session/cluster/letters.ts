import type { AppRequest, HeaderPairs, Remote } from '../../app/app.ts'
import type { Update } from '../streams/tail.ts'

/** What nodes write to each other. A letter is JSON, sealed to the node it is for. */
export type Letter = RequestLetter | ReplyLetter | FollowLetter | UnfollowLetter

/** An HTTP request for a session that the addressee owns. */
export interface RequestLetter {
  readonly type: 'request'
  readonly from: string
  /** Names the reply, and the edge's tail if the answer is a stream. */
  readonly call: string
  readonly sessionId: string
  readonly principal: string | null
  /** Where the answer goes in the log, picked by the edge. */
  readonly streamId: string
  /** The request may have reached an owner that is gone now: look into the log first. */
  readonly again: boolean
  readonly request: WireRequest
}

export interface WireRequest {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** base64 */
  readonly body?: string
  readonly remote?: Remote | undefined
  readonly authInfo?: unknown
}

export interface ReplyLetter {
  readonly type: 'reply'
  readonly call: string
  /**
   * `moved`: the addressee does not own the session (any more); ask the store who does. `gone`: the same, and the app may have
   * seen the request: what became of it is in the log.
   */
  readonly answer: WireAnswer | 'moved' | 'gone'
}

export type WireAnswer = { readonly status: number; readonly headers: HeaderPairs } & (
  | { readonly body: string }
  | { readonly stream: StreamRef }
)

/** Where a stream is to be followed from. */
export interface StreamRef {
  readonly streamId: string
  readonly after: number
  readonly epoch?: string | undefined
  readonly fresh?: boolean
  /** Of a fresh one: its record, which was stored before anybody followed. */
  readonly opened?: Update | undefined
  readonly finite?: boolean
  readonly priming: boolean
}

/** The sender serves a client's stream and wants to be woken; its former owner is gone, or the sender was. */
export interface FollowLetter {
  readonly type: 'follow'
  readonly from: string
  readonly call: string
  readonly sessionId: string
  readonly streamId: string
  /** Who follows: the addressee may own the session without having it in memory. */
  readonly principal: string | null
  readonly request: WireRequest
}

/** The client of that tail has gone. */
export interface UnfollowLetter {
  readonly type: 'unfollow'
  readonly call: string
  readonly sessionId: string
  readonly streamId: string
  /** The last position written to that client. */
  readonly delivered: number
}

export function toWire(request: AppRequest): WireRequest {
  const { method, url, headers, body, remote, authInfo } = request
  return {
    method,
    url,
    headers,
    ...(body && { body: Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64') }),
    ...(remote && { remote }),
    ...(authInfo !== undefined && { authInfo }),
  }
}

export function fromWire(wire: WireRequest): AppRequest {
  const { body: encoded, ...rest } = wire
  if (encoded === undefined) return rest
  const body = Buffer.from(encoded, 'base64')
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString())
  } catch {
    // Not JSON: the app will say so.
  }
  return { ...rest, body, ...(parsed !== undefined && { parsed }) }
}
