import type { StopSignal } from '../stop.ts'
import type { ClientCertificate } from './client-certificate.ts'

/**
 * How the engine calls the user's app: the meaning of `fetch(Request) -> Response`, without the cost of building web
 * objects where the app has no use for them.
 */
export interface App {
  /** Rejects when the app throws; an app in another process with `AppAway` or `AppBrokeOff`. */
  fetch(request: AppRequest): Promise<AppResponse>
  /** Of an app in another process, which can be away while this one lives. */
  readonly presence?: Presence
  /** Frees what the adapter itself holds; the user's app is the user's. */
  close(): Promise<void>
}

/** Whether an app in another process is there. */
export interface Presence {
  /** Nothing answers where it should be; it is looked for until something does. */
  readonly away: boolean
  /** Looks now. Resolves with `away`; never rejects. */
  check(): Promise<boolean>
  /** Called once when it goes, with the reason, and once when it is back. */
  onChange(callback: (away: boolean, reason?: unknown) => void): void
}

/** No connection to the app came about: nothing was asked of it. */
export class AppAway extends Error {
  override readonly name = 'AppAway'
}

/** The connection to the app broke: what was asked of it may have been done, or not. */
export class AppBrokeOff extends Error {
  override readonly name = 'AppBrokeOff'
}

export function isAppGone(error: unknown): error is AppAway | AppBrokeOff {
  return error instanceof AppAway || error instanceof AppBrokeOff
}

export interface AppRequest {
  readonly method: string
  /** Path and query, as the client sent them. */
  readonly url: string
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** Of headers that stand more than once and of which `headers` has one line, as Node has: all lines. */
  readonly lines?: Readonly<Record<string, readonly string[]>> | undefined
  readonly body?: Uint8Array | undefined
  /** The body as JSON, where somebody has parsed it already. */
  readonly parsed?: unknown
  /** What an authentication middleware in front of the handler found. */
  readonly authInfo?: unknown
  readonly remote?: Remote | undefined
  /** Said when nobody wants the response any more. */
  readonly signal?: StopSignal | undefined
  /** The session id that `persistentSessionId` answers while the app handles this request. */
  readonly sessionId?: string | undefined
}

/** Where the client's connection comes from, as the first node saw it. */
export interface Remote {
  readonly address?: string | undefined
  readonly port?: number | undefined
  readonly encrypted?: boolean | undefined
  /** Never leaves this process. */
  readonly certificate?: ClientCertificate | undefined
}

/** Headers that speak of one request's body, or of what the client has of the answer already: not for another request. */
export const OF_ONE_REQUEST: ReadonlySet<string> = new Set([
  'content-digest',
  'content-encoding',
  'content-language',
  'content-location',
  'content-md5',
  'content-range',
  'digest',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'range',
  'repr-digest',
  'trailer',
  'upgrade',
])

export type HeaderPairs = readonly (readonly [name: string, value: string])[]

export interface AppResponse {
  readonly status: number
  /** Lower-case names; a name may stand more than once. */
  readonly headers: HeaderPairs
  /** Rejects with the app's error, or with `AppBrokeOff`. */
  readonly body: AppBody
  /** What the app's own authentication middleware found, where that can be seen. */
  readonly authInfo?: unknown
  /** Tells the app that the client has gone; the body ends. */
  cancel(): void
}

/** To be iterated over; or to be pushed, where that is offered: for a small body it costs a third. */
export interface AppBody extends AsyncIterable<Uint8Array> {
  /** See {@link forEachChunk}. */
  forEach?(onChunk: OnChunk): Promise<void>
}

/** The next chunk waits until what this returns has settled. */
export type OnChunk = (chunk: Uint8Array) => Promise<void> | undefined

/** Calls back for each chunk, in order. Settles at the end of the body; rejects as the body does, or with what was thrown. */
export async function forEachChunk(body: AppBody, onChunk: OnChunk): Promise<void> {
  if (body.forEach) return body.forEach(onChunk)
  for await (const chunk of body) await onChunk(chunk)
}

export function header(headers: HeaderPairs, name: string): string | undefined {
  return headers.find(([key]) => key === name)?.[1]
}

export function isEventStream(response: { status: number; headers: HeaderPairs }): boolean {
  return response.status === 200 && mediaType(response.headers) === 'text/event-stream'
}

function mediaType(headers: HeaderPairs): string | undefined {
  return header(headers, 'content-type')?.replace(/;.*/s, '').trim().toLowerCase()
}

/** The whole body as one buffer. Rejects with the app's error; more than `limit` bytes end it. */
export async function readBody(response: AppResponse, limit = 64 * 1024 * 1024): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  await forEachChunk(response.body, (chunk) => {
    size += chunk.byteLength
    if (size > limit)
      throw new Error(`The app answered with more than ${limit} bytes where one message was expected.`)
    chunks.push(chunk)
    return undefined
  })
  return chunks.length === 1 ? Buffer.from(chunks[0]!) : Buffer.concat(chunks)
}
