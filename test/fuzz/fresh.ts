import type { Side, User } from './plan.ts'
import type { Wire } from './wire.ts'

/** A session that has gone through the same on both sides: its id on each. */
export type Pair = Readonly<Record<Side, string>>

/**
 * Sessions for requests that may end or change one. A pair is one request's alone, and the next one's as long as both sides
 * have said the same: to open one costs more than all that is asked of it.
 */
export class FreshSessions {
  readonly #open: (user: User) => Promise<Pair>
  #idle = new Map<User, Pair[]>()

  constructor(open: (user: User) => Promise<Pair>) {
    this.#open = open
  }

  async take(user: User): Promise<Pair> {
    return this.#idle.get(user)?.pop() ?? this.#open(user)
  }

  giveBack(user: User, pair: Pair): void {
    this.#idle.set(user, [...(this.#idle.get(user) ?? []), pair])
  }

  clear(): void {
    this.#idle.clear()
  }
}

/** Opens a session; resolves with its id. */
export async function openSession(wire: Wire, credential: string): Promise<string> {
  const say = (message: object, ...more: string[]) => {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message })
    const head = ['POST /mcp HTTP/1.1', 'Host: localhost', credential, ...HEADERS, ...more]
    const bytes = Buffer.from([...head, `Content-Length: ${body.length}`, '', body].join('\r\n'))
    return wire.ask(bytes, { method: 'POST', odd: false })
  }
  const opened = await say({ id: 0, method: 'initialize', params: PARAMS })
  const id = opened.headers.get('mcp-session-id')
  if (id === undefined) throw new Error(`A session could not be opened (${opened.end}): ${opened.text}`)
  await say({ method: 'notifications/initialized' }, `Mcp-Session-Id: ${id}`)
  return id
}

const HEADERS = ['Content-Type: application/json', 'Accept: application/json, text/event-stream']
const PARAMS = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'fuzz', version: '1' } }
