import { type ClientHttp2Session, connect, type OutgoingHttpHeaders } from 'node:http2'
import type { Plan } from './plan.ts'
import { bodyOf, fill, type Names } from './render.ts'
import { NOTHING } from './response.ts'
import { FIRST_WORDS, type Outcome, PATIENCE, TIMES } from './wire.ts'

/** These say how a message ends, or what becomes of the connection: HTTP/2 has other words for that. */
const OF_THE_CONNECTION =
  /^(?:connection|content-length|http2-settings|keep-alive|te|trailer|transfer-encoding|upgrade)$/i

/** The same request without what HTTP/2 leaves out of it. */
export function withoutFraming(plan: Plan): Plan {
  const headers = plan.headers.filter(([name]) => !OF_THE_CONNECTION.test(name))
  return { ...plan, version: 'HTTP/1.1', framing: 'length', headers }
}

/** Puts requests to one server over HTTP/2 in the clear, one at a time on each connection: whatever breaks breaks nobody else's. */
export class Http2Wire {
  readonly #origin: string
  readonly #idle: ClientHttp2Session[] = []
  readonly #open = new Set<ClientHttp2Session>()

  constructor(port: number) {
    this.#origin = `http://127.0.0.1:${port}`
  }

  /** Undefined: no client of HTTP/2 can say this. */
  async ask(plan: Plan, names: Names): Promise<Outcome | undefined> {
    const session = this.#idle.pop() ?? this.#connect()
    const outcome = await exchange(session, withoutFraming(plan), names)
    if (!session.closed && !session.destroyed && outcome?.end === 'complete') this.#idle.push(session)
    else session.destroy()
    return outcome
  }

  close(): void {
    for (const session of this.#open) session.destroy()
  }

  #connect(): ClientHttp2Session {
    const session = connect(this.#origin)
    this.#open.add(session)
    session.on('error', () => {})
    session.on('close', () => {
      this.#open.delete(session)
      const i = this.#idle.indexOf(session)
      if (i >= 0) this.#idle.splice(i, 1)
    })
    return session
  }
}

async function exchange(session: ClientHttp2Session, plan: Plan, names: Names): Promise<Outcome | undefined> {
  const headers = headersOf(plan, names)
  if (!isSayable(headers)) return undefined
  const body = bodyOf(plan, names)
  let stream: ReturnType<ClientHttp2Session['request']>
  try {
    stream = session.request(headers, { endStream: body === undefined })
  } catch {
    return undefined
  }
  let resolve!: (end: Outcome['end']) => void
  const ended = new Promise<Outcome['end']>((settle) => {
    resolve = settle
  })
  const received = new Map<string, string>()
  let text = ''
  let status = 0
  const isStream = () => received.get('content-type')?.includes('text/event-stream') === true
  let timer: NodeJS.Timeout | undefined
  stream.setEncoding('latin1')
  stream.on('response', (head) => {
    status = head[':status'] ?? 0
    for (const [name, value] of Object.entries(head))
      if (!name.startsWith(':')) received.set(name, String(value))
    if (!isStream() || plan.method !== 'GET') return
    clearTimeout(timer)
    timer = setTimeout(resolve, FIRST_WORDS, 'open')
  })
  stream.on('data', (chunk: string) => {
    text += chunk
  })
  stream.on('end', () => resolve('complete'))
  stream.on('error', () => resolve('closed'))
  stream.on('close', () => resolve('closed'))
  let times = TIMES
  const wait = () => {
    times -= 1
    timer = times === 0 ? setTimeout(resolve, 0, 'silent') : setTimeout(wait, PATIENCE)
  }
  wait()
  if (body !== undefined) stream.end(body)
  const end = await ended
  clearTimeout(timer)
  stream.close()
  const head = [...received].map(([name, value]) => `${name}: ${value}`).join('\n')
  return {
    ...NOTHING,
    status,
    headers: received,
    body: text,
    text: `${head}\n\n${text}`,
    isStream: isStream(),
    end,
  }
}

/** A line with what a header must not hold would be left out of the request, without a word; an empty Host ends it. */
function isSayable(headers: OutgoingHttpHeaders): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones.
  const forbidden = /[\x00-\x08\x0a-\x1f\x7f]/
  return headers['host'] !== '' && Object.values(headers).every((value) => !forbidden.test(String(value)))
}

/** A second Host stays one beside the authority that the first has become. */
function headersOf({ method, target, headers }: Plan, names: Names): OutgoingHttpHeaders {
  const all: Record<string, string | string[]> = { ':method': method, ':path': fill(target, names) }
  for (const [given, value] of headers) {
    const name =
      given === 'Host' && all[':authority'] === undefined ? ':authority' : fill(given, names).toLowerCase()
    const before = all[name]
    // HTTP/1 takes no notice of blanks there; with them, a line of HTTP/2 is dropped.
    const filled = fill(value, names).replace(/^[ \t]+|[ \t]+$/g, '')
    all[name] = before === undefined ? filled : [...[before].flat(), filled]
  }
  return all
}
