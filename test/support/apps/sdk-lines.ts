import type { IncomingMessage, ServerResponse } from 'node:http'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { WebStandardStreamableHTTPServerTransport as WebTransportV1 } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import type { Transport as TransportV1 } from '@modelcontextprotocol/sdk/shared/transport.js'
import { WebStandardStreamableHTTPServerTransport as WebTransportV2 } from '@modelcontextprotocol/server'
import type { Journal } from '../journal.ts'
import { InMemoryEventStore } from './in-memory-event-store.ts'
import { buildServerV1 } from './server-v1.ts'
import { buildServerV2 } from './server-v2.ts'

export type SdkLine = 'v1' | 'v2'

export interface AuthInfo {
  token: string
  clientId: string
  scopes: string[]
  expiresAt?: number
  extra?: Record<string, unknown>
}

export interface NodeTransport {
  handleRequest(
    req: IncomingMessage & { auth?: AuthInfo },
    res: ServerResponse,
    body?: unknown,
  ): Promise<void>
}

export interface WebTransport {
  handleRequest(request: Request, options?: { authInfo?: AuthInfo; parsedBody?: unknown }): Promise<Response>
}

/** How an app opens a session; the same on both lines. */
export interface SessionOptions {
  readonly journal: Journal
  /** Called when the session has its id, and when it is over. */
  onOpen(id: string): void
  onClose(id: string): void
  generateId(): string
  readonly eventStore: boolean
  readonly json: boolean
  /** Of the v1 line's server. Default: all. */
  readonly tools?: readonly string[] | undefined
}

function transportOptions({ generateId, onOpen, eventStore, json }: SessionOptions) {
  return {
    sessionIdGenerator: generateId,
    onsessioninitialized: onOpen,
    enableJsonResponse: json,
    ...(eventStore && { eventStore: new InMemoryEventStore(), retryInterval: 20 }),
  }
}

export async function openNodeSession(sdk: SdkLine, options: SessionOptions): Promise<NodeTransport> {
  if (sdk === 'v1') {
    const transport = new StreamableHTTPServerTransport(transportOptions(options))
    transport.onclose = () => options.onClose(transport.sessionId ?? '')
    // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
    await buildServerV1(options.journal, options.tools).connect(transport as unknown as TransportV1)
    return transport
  }
  const transport = new NodeStreamableHTTPServerTransport(transportOptions(options))
  transport.onclose = () => options.onClose(transport.sessionId ?? '')
  await buildServerV2(options.journal).connect(transport)
  return transport
}

export async function openWebSession(sdk: SdkLine, options: SessionOptions): Promise<WebTransport> {
  if (sdk === 'v1') {
    const transport = new WebTransportV1(transportOptions(options))
    transport.onclose = () => options.onClose(transport.sessionId ?? '')
    await buildServerV1(options.journal, options.tools).connect(transport as unknown as TransportV1)
    return transport
  }
  const transport = new WebTransportV2(transportOptions(options))
  transport.onclose = () => options.onClose(transport.sessionId ?? '')
  await buildServerV2(options.journal).connect(transport)
  return transport
}
