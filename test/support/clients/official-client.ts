import { setTimeout as sleep } from 'node:timers/promises'
import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { SdkLine } from '../apps/sdk-lines.ts'
import { until } from '../wait.ts'
import { type Message, textOf } from './raw-client.ts'

export interface ClientOptions {
  readonly headers?: Record<string, string>
  /** How the client answers `sampling/createMessage`; default at once with `answer(<prompt>)`. */
  readonly onSample?: (prompt: string) => Promise<string>
  readonly onElicit?: (message: string) => Promise<Record<string, unknown>>
  /** Says an answer again that did not get through, as its server may have been killed. The SDK says it once. */
  readonly insist?: boolean
}

export interface CallOptions {
  readonly onprogress?: (progress: { progress: number; total?: number | undefined }) => void
  readonly signal?: AbortSignal
  readonly timeout?: number
}

/** Every request that the client's transport made. */
export interface Exchange {
  readonly method: string
  readonly status: number
  readonly lastEventId: string | null
}

type AnyClient = ClientV1 | ClientV2
type AnyTransport = TransportV1 | TransportV2

const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } }
const clientInfo = { name: 'official-client', version: '1.0.0' }
/** Patient enough for a server that starts again. */
const reconnectionOptions = {
  initialReconnectionDelay: 10,
  maxReconnectionDelay: 100,
  reconnectionDelayGrowFactor: 1.5,
  maxRetries: 5000,
}
export const rootUri = 'file:///home/test'

/** The SDK's own client, of either line, with everything it received on record. */
export class OfficialClient {
  readonly sdk: SdkLine
  readonly client: ClientV1
  readonly transport: AnyTransport
  /** Every message from the server after `initialize`, in the order in which it came. */
  readonly received: Message[]
  readonly exchanges: Exchange[]
  readonly errors: Error[]

  private constructor(parts: {
    sdk: SdkLine
    client: AnyClient
    transport: AnyTransport
    received: Message[]
    exchanges: Exchange[]
    errors: Error[]
  }) {
    this.sdk = parts.sdk
    // What the tests use of the two clients has the same shape.
    this.client = parts.client as unknown as ClientV1
    this.transport = parts.transport
    this.received = parts.received
    this.exchanges = parts.exchanges
    this.errors = parts.errors
  }

  static async connect(sdk: SdkLine, url: string, options: ClientOptions = {}): Promise<OfficialClient> {
    const exchanges: Exchange[] = []
    const recordingFetch = async (input: string | URL, init?: RequestInit): Promise<Response> => {
      const response = await (options.insist && isAnswer(init) ? insisting(input, init) : fetch(input, init))
      const lastEventId = new Headers(init?.headers).get('last-event-id')
      exchanges.push({ method: init?.method ?? 'GET', status: response.status, lastEventId })
      return response
    }
    const transportOptions = {
      fetch: recordingFetch,
      reconnectionOptions,
      requestInit: { headers: options.headers ?? {} },
    }
    const errors: Error[] = []
    const received: Message[] = []
    const onerror = (error: Error) => void errors.push(error)
    if (sdk === 'v1') {
      const client = new ClientV1(clientInfo, { capabilities })
      answerV1(client, options)
      client.onerror = onerror
      const transport = new TransportV1(new URL(url), transportOptions)
      // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
      await client.connect(transport as unknown as Transport)
      record(transport, received)
      return new OfficialClient({ sdk, client, transport, received, exchanges, errors })
    }
    const client = new ClientV2(clientInfo, { capabilities })
    answerV2(client, options)
    client.onerror = onerror
    const transport = new TransportV2(new URL(url), transportOptions)
    await client.connect(transport)
    record(transport, received)
    return new OfficialClient({ sdk, client, transport, received, exchanges, errors })
  }

  get sessionId(): string | undefined {
    return this.transport.sessionId
  }

  /** The text of the log lines, in order. */
  get logs(): string[] {
    return this.notifications('notifications/message').map(({ params }) => String(params?.data))
  }

  notifications(method: string): Message[] {
    return this.received.filter((message) => message.method === method)
  }

  /** Calls a tool; an answer with `isError` rejects. */
  async tool(name: string, args: Record<string, unknown> = {}, options: CallOptions = {}): Promise<string> {
    const params = { name, arguments: args }
    // The second line has no result schema between the two.
    const result =
      this.sdk === 'v1'
        ? await this.client.callTool(params, undefined, options)
        : await (this.client as unknown as ClientV2).callTool(params, options)
    if (result.isError) throw new Error(textOf(result))
    return textOf(result)
  }

  async log(data: string, timeoutMs?: number): Promise<void> {
    await until(
      `the log line ${data} after ${this.logs.join(' ')}`,
      () => this.logs.includes(data),
      timeoutMs,
    )
  }

  /** The standalone stream is opened by the client in the background; what is sent before may take a detour. */
  async listening(): Promise<void> {
    await until('the standalone stream', () =>
      this.exchanges.some(({ method, status }) => method === 'GET' && status === 200),
    )
  }

  async terminate(): Promise<void> {
    await this.transport.terminateSession()
  }

  async close(): Promise<void> {
    await this.client.close()
  }
}

function isAnswer({ method, body }: RequestInit = {}): boolean {
  return method === 'POST' && typeof body === 'string' && !('method' in JSON.parse(body))
}

/** Sends it until somebody has accepted or refused it; the last try decides. */
async function insisting(input: string | URL, init?: RequestInit): Promise<Response> {
  for (let tries = 1; tries < 20; tries += 1) {
    const response = await fetch(input, init).catch(() => undefined)
    if (response && response.status < 500) return response
    await response?.body?.cancel()
    await sleep(100)
  }
  return fetch(input, init)
}

function record(transport: AnyTransport, received: Message[]): void {
  const { onmessage } = transport
  transport.onmessage = (message: unknown, ...rest: unknown[]) => {
    received.push(message as Message)
    ;(onmessage as ((message: unknown, ...rest: unknown[]) => void) | undefined)?.(message, ...rest)
  }
}

function answerV1(client: ClientV1, options: ClientOptions): void {
  client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) =>
    sampled(params.messages, options),
  )
  client.setRequestHandler(ElicitRequestSchema, async ({ params }) => elicited(params.message, options))
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: rootUri, name: 'home' }] }))
}

function answerV2(client: ClientV2, options: ClientOptions): void {
  client.setRequestHandler('sampling/createMessage', async ({ params }) => sampled(params.messages, options))
  client.setRequestHandler('elicitation/create', async ({ params }) => elicited(params.message, options))
  client.setRequestHandler('roots/list', () => ({ roots: [{ uri: rootUri, name: 'home' }] }))
}

async function sampled(messages: readonly { content: unknown }[], { onSample }: ClientOptions) {
  const prompt = textOf({ content: [messages[0]?.content] })
  const text = onSample ? await onSample(prompt) : `answer(${prompt})`
  return { model: 'test', role: 'assistant' as const, content: { type: 'text' as const, text } }
}

async function elicited(message: string, { onElicit }: ClientOptions) {
  const content = onElicit ? await onElicit(message) : { name: `asked: ${message}` }
  return { action: 'accept' as const, content: content as Record<string, string> }
}
