import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Journal } from '../journal.ts'
import { type AuthInfo, loadSdk, type NodeTransport, type SdkLine, type WebTransport } from './sdk-lines.ts'

export interface AppOptions {
  readonly journal: Journal
  /** The app's own in-memory event store. Default false. */
  readonly eventStore?: boolean
  /** `enableJsonResponse`. Default false. */
  readonly json?: boolean
  /** The SDK's bearer auth, for the tokens of `auth.ts`. Default false. */
  readonly auth?: boolean
  /** Default false. */
  readonly cors?: boolean
  readonly generateId?: () => string
}

function sessionOptions<Transport>(options: AppOptions, sessions: Map<string, Transport>) {
  const { journal, eventStore = false, json = false, generateId = randomUUID } = options
  const onClose = (id: string) => void sessions.delete(id)
  return { journal, eventStore, json, generateId, onClose }
}

/** The session map that each app of this kind writes for itself: local ids to transports, for `(req, res)`. */
export function nodeSessions(sdk: SdkLine, options: AppOptions) {
  const sessions = new Map<string, NodeTransport>()
  return async (req: IncomingMessage & { auth?: AuthInfo }, res: ServerResponse, body?: unknown) => {
    const id = req.headers['mcp-session-id']
    let transport = typeof id === 'string' ? sessions.get(id) : undefined
    if (!transport && id !== undefined) return refuse(res, 404, 'Session not found')
    if (!transport && req.method !== 'POST') return refuse(res, 400, 'Mcp-Session-Id header is required')
    transport ??= await (await loadSdk(sdk)).openNodeSession({
      ...sessionOptions(options, sessions),
      onOpen: (opened) => void sessions.set(opened, transport!),
    })
    await transport.handleRequest(req, res, body)
  }
}

/** The same for `fetch`. */
export function webSessions(sdk: SdkLine, options: AppOptions) {
  const sessions = new Map<string, WebTransport>()
  return async (request: Request, authInfo?: AuthInfo): Promise<Response> => {
    const id = request.headers.get('mcp-session-id')
    let transport = id === null ? undefined : sessions.get(id)
    if (!transport && id !== null) return Response.json(refusal('Session not found'), { status: 404 })
    if (!transport && request.method !== 'POST') {
      return Response.json(refusal('Mcp-Session-Id header is required'), { status: 400 })
    }
    transport ??= await (await loadSdk(sdk)).openWebSession({
      ...sessionOptions(options, sessions),
      onOpen: (opened) => void sessions.set(opened, transport!),
    })
    return transport.handleRequest(request, authInfo && { authInfo })
  }
}

function refusal(message: string) {
  return { jsonrpc: '2.0', error: { code: -32000, message }, id: null }
}

function refuse(res: ServerResponse, status: number, message: string): void {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(refusal(message)))
}
