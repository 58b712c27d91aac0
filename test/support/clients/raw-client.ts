import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { until, within } from '../wait.ts'

/** Milliseconds until the head of an answer has come, on a busy machine. What hangs, hangs for longer. */
const HEAD_WITHIN = 20_000

export const protocolVersion = '2025-11-25'

export interface Message {
  readonly jsonrpc: '2.0'
  readonly id?: string | number
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { code: number; message: string; data?: unknown }
}

export interface RawEvent {
  readonly id: string | undefined
  readonly data: string
  /** Undefined for a priming event. */
  readonly message: Message | undefined
}

/** An event stream as it comes off the wire: ids, order and the end are what a test is about. */
export class RawStream {
  readonly events: RawEvent[] = []
  readonly comments: string[] = []
  retry: number | undefined
  /** `ended` by the server, `cut` by a broken connection, `closed` by us. */
  state: 'open' | 'ended' | 'cut' | 'closed' = 'open'
  readonly response: Response
  readonly #abort: AbortController

  constructor(response: Response, abort: AbortController) {
    this.response = response
    this.#abort = abort
    void this.#read(response.body!)
  }

  get messages(): Message[] {
    return this.events.flatMap(({ message }) => (message ? [message] : []))
  }

  get lastEventId(): string | undefined {
    return this.events.findLast(({ id }) => id !== undefined)?.id
  }

  /** The text of the log lines, in order. */
  get logs(): string[] {
    return this.messages
      .filter((m) => m.method === 'notifications/message')
      .map((m) => String(m.params?.data))
  }

  async next(what: string, matches: (message: Message) => boolean, timeoutMs?: number): Promise<Message> {
    return until(
      () => `${what} on a stream that is ${this.state} and has ${JSON.stringify(this.messages)}`,
      () => this.messages.find(matches),
      timeoutMs,
    )
  }

  async count(events: number, timeoutMs?: number): Promise<void> {
    await until(`${events} events`, () => this.events.length >= events, timeoutMs)
  }

  async over(timeoutMs?: number): Promise<void> {
    await until('the end of the stream', () => this.state !== 'open', timeoutMs)
  }

  close(): void {
    if (this.state !== 'open') return
    this.state = 'closed'
    this.#abort.abort()
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const parser = createParser({
      onEvent: (event) => this.#event(event),
      onComment: (comment) => void this.comments.push(comment),
      onRetry: (ms) => {
        this.retry = ms
      },
    })
    const decoder = new TextDecoder()
    try {
      for await (const chunk of body) parser.feed(decoder.decode(chunk, { stream: true }))
      if (this.state === 'open') this.state = 'ended'
    } catch {
      // A broken connection is what many tests are about; `state` says so.
      if (this.state === 'open') this.state = 'cut'
    }
  }

  #event({ id, data }: EventSourceMessage): void {
    this.events.push({ id, data, message: data === '' ? undefined : (JSON.parse(data) as Message) })
  }
}

/** The first text of a tool's result. */
export function textOf(result: unknown): string {
  const content = (result as { content?: { text?: string }[] } | undefined)?.content
  return content?.[0]?.text ?? ''
}

// Request ids are unique in a session, however many clients share it.
let clones = 0

/** Speaks Streamable HTTP by hand, so that a test sees every status, header and event id. */
export class RawClient {
  readonly url: string
  session: string | undefined
  headers: Record<string, string>
  version: string = protocolVersion
  readonly #streams = new Set<RawStream>()
  #nextId = 1

  constructor(url: string, headers: Record<string, string> = {}) {
    this.url = url
    this.headers = headers
  }

  /** `initialize` and `notifications/initialized`. */
  static async open(
    url: string,
    options: { headers?: Record<string, string>; capabilities?: object; version?: string } = {},
  ): Promise<RawClient> {
    const client = new RawClient(url, options.headers)
    client.version = options.version ?? protocolVersion
    const response = await client.post(client.initialize(options.capabilities))
    if (!response.ok) throw new Error(`initialize: ${response.status} ${await response.text()}`)
    client.session = response.headers.get('mcp-session-id') ?? undefined
    await response.text()
    const told = await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
    if (told.status !== 202) throw new Error(`notifications/initialized: ${told.status}`)
    return client
  }

  /** Another client in the same session, as after a change of network. */
  clone(url = this.url): RawClient {
    const client = new RawClient(url, { ...this.headers })
    client.session = this.session
    client.version = this.version
    clones += 1
    client.#nextId = clones * 1000
    return client
  }

  initialize(capabilities: object = { sampling: {}, elicitation: {}, roots: {} }): Message {
    const clientInfo = { name: 'raw-client', version: '1.0.0' }
    return this.request('initialize', { protocolVersion: this.version, capabilities, clientInfo })
  }

  request(method: string, params: Record<string, unknown> = {}): Message {
    return { jsonrpc: '2.0', id: this.#nextId++, method, params }
  }

  toolCall(name: string, args: Record<string, unknown> = {}, meta?: Record<string, unknown>): Message {
    return this.request('tools/call', { name, arguments: args, ...(meta && { _meta: meta }) })
  }

  async post(body: unknown, headers: Record<string, string | undefined> = {}): Promise<Response> {
    return this.#fetch('POST', typeof body === 'string' ? body : JSON.stringify(body), {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    })
  }

  async delete(headers: Record<string, string | undefined> = {}): Promise<Response> {
    return this.#fetch('DELETE', undefined, headers)
  }

  /** GET whose answer may be a refusal. */
  async get(headers: Record<string, string | undefined> = {}): Promise<Response> {
    const abort = new AbortController()
    const response = await this.#fetch('GET', undefined, { accept: 'text/event-stream', ...headers }, abort)
    if (response.headers.get('content-type')?.includes('text/event-stream')) abort.abort()
    return response
  }

  /** Sends a request and reads its stream. */
  async stream(message: Message, headers: Record<string, string | undefined> = {}): Promise<RawStream> {
    const abort = new AbortController()
    const all = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    }
    return this.#stream(await this.#fetch('POST', JSON.stringify(message), all, abort), abort)
  }

  /** The standalone stream, or the resumption of whichever stream `lastEventId` belongs to. */
  async listen(lastEventId?: string, headers: Record<string, string | undefined> = {}): Promise<RawStream> {
    const abort = new AbortController()
    const all = { accept: 'text/event-stream', ...headers, 'last-event-id': lastEventId }
    return this.#stream(await this.#fetch('GET', undefined, all, abort), abort)
  }

  /**
   * All that comes of a call after `begun`, to its answer: the streams that it took, none when the answer had come. One that
   * the server ends before is resumed, as every client does.
   */
  async rest(begun: RawStream, id: Message['id'], timeoutMs?: number): Promise<RawStream[]> {
    const streams = [begun]
    const isAnswer = (message: Message) => message.id === id && message.method === undefined
    const answered = async () => {
      if (streams.some((stream) => stream.messages.some(isAnswer))) return true
      if (streams.at(-1)?.state === 'open') return false
      const last = streams.findLast((stream) => stream.lastEventId !== undefined)?.lastEventId
      streams.push(await this.listen(last))
      return false
    }
    await until(() => `the answer, on ${streams.map(({ state }) => state)}`, answered, timeoutMs)
    return streams.slice(1)
  }

  /** Sends a request and returns the answer, whether it came as JSON or as an event stream. */
  async call(message: Message, timeoutMs?: number): Promise<Message> {
    const response = await this.post(message)
    if (response.headers.get('content-type')?.includes('application/json')) {
      return (await response.json()) as Message
    }
    if (!response.ok) throw new Error(`${message.method}: ${response.status} ${await response.text()}`)
    const stream = new RawStream(response, new AbortController())
    return stream.next('the answer', ({ id, method }) => id === message.id && method === undefined, timeoutMs)
  }

  async tool(name: string, args: Record<string, unknown> = {}): Promise<string> {
    const { result, error } = await this.call(this.toolCall(name, args))
    if (error) throw new Error(`${name}: ${error.code} ${error.message}`)
    return textOf(result)
  }

  /** Answers a request that the server sent. */
  async answer(request: Message, result: Record<string, unknown>): Promise<Response> {
    return this.post({ jsonrpc: '2.0', id: request.id, result })
  }

  close(): void {
    for (const stream of this.#streams) stream.close()
  }

  async #stream(response: Response, abort: AbortController): Promise<RawStream> {
    if (!response.headers.get('content-type')?.includes('text/event-stream')) {
      throw new Error(`No event stream but ${response.status} ${await response.text()}`)
    }
    const stream = new RawStream(response, abort)
    this.#streams.add(stream)
    return stream
  }

  async #fetch(
    method: string,
    body: string | undefined,
    headers: Record<string, string | undefined>,
    abort = new AbortController(),
  ): Promise<Response> {
    const all = {
      'mcp-session-id': this.session,
      'mcp-protocol-version': this.session === undefined ? undefined : this.version,
      ...this.headers,
      ...headers,
    }
    const given = Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined)
    const { signal } = abort
    const sent = fetch(this.url, { method, headers: given, signal, ...(body !== undefined && { body }) })
    return within(`${method} ${this.url}`, sent, HEAD_WITHIN)
  }
}
