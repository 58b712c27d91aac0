/** What of an answer has come, as it came. */
export interface Parsed {
  /** All of it, byte by byte. */
  readonly text: string
  /** 0: nothing that is HTTP. */
  readonly status: number
  /** By lower-case name; what stands more than once is joined by commas. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
  readonly complete: boolean
  /** It is complete when the connection is closed. */
  readonly untilClose: boolean
  readonly keepAlive: boolean
  readonly isStream: boolean
  /** What comes behind it. */
  readonly rest: string
}

export const NOTHING = {
  text: '',
  status: 0,
  headers: new Map<string, string>(),
  body: '',
  complete: false,
  untilClose: false,
  keepAlive: false,
  isStream: false,
  rest: '',
}

/** Reads what has come of the answer to a request of this method. */
export function parseResponse(text: string, method: string): Parsed {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return { ...NOTHING, text }
  const [first = '', ...lines] = text.slice(0, end).split('\r\n')
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1] ?? 0)
  const after = text.slice(end + 4)
  // An interim answer (100 Continue): the real one follows.
  if (status >= 100 && status < 200 && status !== 101) return { ...parseResponse(after, method), text }
  const headers = new Map<string, string>()
  for (const line of lines) {
    const name = line.slice(0, line.indexOf(':')).toLowerCase()
    const value = line.slice(line.indexOf(':') + 1).trim()
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  const keepAlive = !/close/i.test(headers.get('connection') ?? '') && first.startsWith('HTTP/1.1')
  const isStream = headers.get('content-type')?.includes('text/event-stream') === true
  const head = { text, status, headers, keepAlive, isStream, untilClose: false }
  const bodiless = method === 'HEAD' || status === 204 || status === 304 || status === 101
  if (bodiless) return { ...head, body: '', complete: true, rest: after }
  if (headers.has('transfer-encoding')) return { ...head, ...unchunk(after) }
  const length = headers.get('content-length')
  if (length === undefined) return { ...head, body: after, complete: false, untilClose: true, rest: '' }
  const bytes = Number(length)
  const complete = after.length >= bytes
  return { ...head, body: after.slice(0, bytes), complete, rest: after.slice(bytes) }
}

function unchunk(text: string): Pick<Parsed, 'body' | 'complete' | 'rest'> {
  let body = ''
  let at = 0
  for (;;) {
    const line = text.indexOf('\r\n', at)
    if (line < 0) return { body, complete: false, rest: '' }
    const size = Number.parseInt(text.slice(at, line), 16)
    if (size === 0) {
      // Trailers, if any, end with an empty line.
      const end = text.indexOf('\r\n\r\n', line)
      return end < 0
        ? { body, complete: false, rest: '' }
        : { body, complete: true, rest: text.slice(end + 4) }
    }
    const next = line + 2 + size
    body += text.slice(line + 2, next)
    if (!(size > 0) || next + 2 > text.length) return { body, complete: false, rest: '' }
    at = next + 2
  }
}
