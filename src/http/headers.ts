import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HeaderPairs } from '../app/app.ts'

/** Headers by lower-case name, whatever their names are: nothing is inherited. */
export type RequestHeaders = Record<string, string>

/** Without the pseudo headers of HTTP/2, whose `:authority` is the host. */
export function nodeHeaders(req: IncomingMessage): RequestHeaders {
  const headers: RequestHeaders = Object.create(null)
  for (const name in req.headers) {
    const value = req.headers[name]
    if (value !== undefined && !name.startsWith(':')) headers[name] = textOf(value)
  }
  const host = hostOf(req)
  if (host !== undefined) headers['host'] = host
  return headers
}

/** The framing of a body is for Node to judge; a Host that stands twice is refused by it. */
const OF_NODE = new Set(['content-length', 'transfer-encoding', 'host'])

/**
 * Headers that stand more than once and of which Node keeps the first line only (two of `Authorization`, say), with all
 * lines. An app may see them nevertheless, and refuse what it sees.
 */
export function droppedLines(req: IncomingMessage): Record<string, readonly string[]> | undefined {
  const { headers, rawHeaders } = req
  if (rawHeaders.length === Object.keys(headers).length * 2) return undefined
  const lines: Record<string, string[]> = Object.create(null)
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase()
    if (name.startsWith(':') || OF_NODE.has(name)) continue
    lines[name] = [...(lines[name] ?? []), rawHeaders[i + 1]!]
  }
  const dropped = Object.entries(lines).filter(([name, all]) => all.length > 1 && headers[name] === all[0])
  return dropped.length === 0 ? undefined : Object.fromEntries(dropped)
}

export function hostOf({ headers }: IncomingMessage): string | undefined {
  const authority = headers[':authority']
  return authority === undefined ? headers.host : textOf(authority)
}

export function webHeaders({ headers: given, url }: Request): RequestHeaders {
  const headers: RequestHeaders = Object.create(null)
  for (const [name, value] of given) headers[name] = value
  headers['host'] ??= new URL(url).host
  return headers
}

function textOf(value: string | string[]): string {
  return typeof value === 'string' ? value : value.join(', ')
}

/** What a body's encoding left in the headers means nothing once it is decoded. */
export function forgetEncoding(headers: RequestHeaders): void {
  if (headers['content-encoding'] === undefined) return
  for (const name of ENCODED) delete headers[name]
}

const ENCODED = ['content-encoding', 'content-md5', 'digest', 'content-digest', 'repr-digest']

/** HTTP/2 has no words for these, and refuses them (RFC 9113, 8.2.2). */
const OF_THE_CONNECTION = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
])

/** What middleware in front of us has set stays, but for what the answer sets itself. */
const ADDED_TO = new Set(['set-cookie', 'vary'])

/** As `res.setHeader` would, except that a name which stands more than once is kept more than once. */
export function setHeaders(res: ServerResponse, headers: HeaderPairs): void {
  const http2 = res.req.httpVersionMajor >= 2
  for (const [i, [name, value]] of headers.entries()) {
    if (http2 && OF_THE_CONNECTION.has(name)) continue
    const isAgain = headers.findIndex(([each]) => each === name) < i
    const before = isAgain || ADDED_TO.has(name) ? given(res, name) : []
    res.setHeader(name, before.length === 0 ? value : [...new Set([...before, value])])
  }
}

function given(res: ServerResponse, name: string): string[] {
  const value = res.getHeader(name)
  return value === undefined ? [] : Array.isArray(value) ? [...value] : [String(value)]
}
