import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Journal } from '../journal.ts'

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

/** What an app takes of its SDK. */
export interface Sdk {
  openNodeSession(options: SessionOptions): Promise<NodeTransport>
  openWebSession(options: SessionOptions): Promise<WebTransport>
  buildServer(journal: Journal): unknown
}

export function loadSdk(line: SdkLine): Promise<Sdk> {
  return line === 'v1' ? import('./sdk-v1.ts') : import('./sdk-v2.ts')
}
