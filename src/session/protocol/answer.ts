import { type AppResponse, type HeaderPairs, readBody } from '../../app/app.ts'
import type { Sink } from '../../sse.ts'
import { errorResponse } from './json-rpc.ts'

/** An event stream for a client's response. */
export interface EventStream {
  /** The response is open: write to it from now on. */
  start(sink: Sink): void
  /** The client has gone. */
  close(): void
}

/** What the engine answers to one HTTP request: a whole body, the app's own body as it comes, or an event stream. */
export type Answer = { readonly status: number; readonly headers: HeaderPairs } & (
  | { readonly body: Uint8Array | string }
  | { readonly response: AppResponse }
  | { readonly tail: EventStream }
)

export type WholeAnswer = Answer & { readonly body: Uint8Array | string }

/** A JSON-RPC error with a status, in the shape and with the codes that the SDK's own transport uses. */
export function refuse(
  status: number,
  message: string,
  { code = -32000, retryAfter, data }: RefuseOptions = {},
): WholeAnswer {
  const headers: [string, string][] = [['content-type', 'application/json']]
  if (retryAfter !== undefined) headers.push(['retry-after', String(retryAfter)])
  return { status, headers, body: errorResponse(null, code, message, data) }
}

interface RefuseOptions {
  readonly code?: number
  /** Seconds. */
  readonly retryAfter?: number
  readonly data?: object | undefined
}

/** The same answer with the headers that let a browser's page read it (CORS), as the app gave them to this caller. */
export function withCors<T extends Answer>(answer: T, appHeaders: HeaderPairs): T {
  const cors = appHeaders.filter(([name]) => name.startsWith('access-control-') || name === 'vary')
  return { ...answer, headers: [...answer.headers, ...cors] }
}

/** The same for a session that is unknown, expired, terminated or somebody else's: nobody learns which. */
export function sessionNotFound(): WholeAnswer {
  return refuse(404, 'Session not found', { code: -32001 })
}

export function unavailable(what: string): WholeAnswer {
  return refuse(503, `${what} The session store is not available; try again.`, { retryAfter: 1 })
}

/** To be asked again: of this process when it is back, or of another. */
export function shuttingDown(): WholeAnswer {
  return refuse(503, 'This process is shutting down; try again.', { retryAfter: 1 })
}

/** What was asked for is there, and a process of another release will answer. */
export function otherRelease(): WholeAnswer {
  const text = 'This session is served by another release than that of this process; try again.'
  return refuse(503, text, { retryAfter: 1 })
}

/** The server behind `{ url }` cannot be reached. */
export function appAway(): WholeAnswer {
  return refuse(503, 'The server behind this endpoint does not answer; try again.', { retryAfter: 1 })
}

/** To a call that its client has cancelled: nothing is left to be said. */
export function cancelled(): WholeAnswer {
  return { status: 202, headers: [], body: '' }
}

/** Of a body that is larger a refusal is no less one. */
const MAX_STORED = 16_384

/** An answer that is no message, as it is stored with the end of its stream: for whoever asks for it later. */
export function toPayload({ status, headers, body }: WholeAnswer): string {
  return JSON.stringify({ status, headers, body: body.length > MAX_STORED ? '' : body.toString() })
}

/** The app's response as it is. */
export function relay(response: AppResponse): Answer {
  return { status: response.status, headers: response.headers, response }
}

/** The app's response, read to its end, under the session id that the client knows. */
export async function relayWhole(
  response: AppResponse,
  sessionId: string,
): Promise<Answer & { body: Buffer }> {
  const body = await readBody(response)
  return { status: response.status, headers: clientHeaders(response.headers, sessionId), body }
}

const PER_MESSAGE = new Set(['content-length', 'transfer-encoding', 'connection', 'keep-alive', 'date'])

/** The app's headers, CORS and all, fit for a body that we write ourselves. */
export function clientHeaders(headers: HeaderPairs, sessionId: string): HeaderPairs {
  return without(headers, PER_MESSAGE).map((pair) =>
    pair[0] === 'mcp-session-id' ? (['mcp-session-id', sessionId] as const) : pair,
  )
}

/** Headers of an event stream that we serve: those of the app's answer to this caller, with our own content. */
export function streamHeaders(headers: HeaderPairs, sessionId: string): HeaderPairs {
  return [...without(headers, NOT_OF_STREAMS), ...STREAM_HEADERS, ['mcp-session-id', sessionId]]
}

function without(headers: HeaderPairs, names: ReadonlySet<string>): HeaderPairs {
  return headers.filter(([name]) => !names.has(name))
}

const STREAM_HEADERS: HeaderPairs = [
  ['content-type', 'text/event-stream'],
  ['cache-control', 'no-cache, no-transform'],
  ['x-accel-buffering', 'no'],
]

const NOT_OF_STREAMS = new Set([...PER_MESSAGE, ...STREAM_HEADERS.map(([name]) => name), 'mcp-session-id'])
