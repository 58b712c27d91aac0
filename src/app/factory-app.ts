import { PersistError } from '../errors.ts'
import { findInitialize } from '../json.ts'
import type { AuthInfo } from '../options.ts'
import {
  type App,
  type AppBody,
  type AppBrokeOff,
  type AppRequest,
  type AppResponse,
  forEachChunk,
  isEventStream,
  type OnChunk,
} from './app.ts'
import { FIRST_UNREAD, HandoffStore } from './handoff-store.ts'
import { persistentSessionId, withSessionId } from './persistent-session-id.ts'
import { fromWebResponse, notForFetch, webRequest } from './web.ts'

/** What a factory is told about the session its server is for: the `initialize` request, with these on it. */
export interface FactoryContext {
  /** Sessions exist in 2025-era protocol revisions only; the v2 SDK calls these `legacy`. */
  readonly era: 'legacy'
  readonly authInfo?: AuthInfo
  /** The request that opens the session, or that brings it back to life: its `url` names the tenant, for one. */
  readonly requestInfo: Request
}

/** A server of either SDK line, as far as we use it. */
export interface ConnectableServer {
  connect(transport: never): Promise<void>
  close(): Promise<void>
  /** Of a server in a process of its own, which may die: what has ended without an answer then has broken off. */
  readonly gone?: AppBrokeOff | undefined
}

export type ServerFactory = (context: FactoryContext) => ConnectableServer | Promise<ConnectableServer>

/** The slice of the SDK's web-standard transport that both lines share. */
interface Transport {
  onclose?: (() => void) | undefined
  handleRequest(request: Request, options: { authInfo?: unknown; parsedBody?: unknown }): Promise<Response>
  close(): Promise<void>
}

interface Session {
  readonly server: ConnectableServer
  readonly transport: Transport
  readonly unread: HandoffStore
}

/**
 * The small app around a server factory: one server and one SDK transport for each session. The transport comes from
 * the SDK line of the first server, and is loaded then.
 */
export class FactoryApp implements App {
  readonly #factory: ServerFactory
  readonly #sessions = new Map<string, Session>()

  constructor(factory: ServerFactory) {
    this.#factory = factory
  }

  /** `made`: what the factory has returned for this very request, where it was called already. */
  async fetch(request: AppRequest, made?: ConnectableServer): Promise<AppResponse> {
    const opens = request.headers['mcp-session-id'] === undefined && isInitialize(request)
    if (opens) return this.#open(request, made ?? (await this.#make(request)))
    await made?.close()
    const refused = notForFetch(request)
    if (refused) return refused
    const id = request.headers['mcp-session-id']
    const session = id === undefined ? undefined : this.#sessions.get(id)
    if (session) return handle(session, request.method === 'GET' ? fromUnread(request) : request)
    if (id !== undefined) return refusal(404, -32001, 'Session not found')
    return refusal(400, -32000, 'Bad Request: No valid session ID provided')
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map(({ transport }) => transport.close()))
    this.#sessions.clear()
  }

  async #make(request: AppRequest): Promise<ConnectableServer> {
    const made: unknown = await this.#factory(contextOf(webRequest(request), request.authInfo))
    if (isServer(made)) return made
    throw new PersistError(
      'INVALID_ARGUMENT',
      `The server factory returned ${made === undefined ? 'nothing' : 'something without connect()'}; let it return a new ` +
        'McpServer each time it is called. A web handler, which returns a Response, is given as { fetch: handler }.',
    )
  }

  async #open(request: AppRequest, server: ConnectableServer): Promise<AppResponse> {
    const Transport = await transportFor(server)
    const unread = new HandoffStore()
    const session = {
      server,
      unread,
      transport: new Transport({
        sessionIdGenerator: persistentSessionId,
        onsessioninitialized: (id: string) => void this.#sessions.set(id, session),
        eventStore: unread,
        // Between the transport and us there is nothing to keep alive; towards the client, the engine does it.
        keepAliveMs: 0,
        // The body was bounded when it was read.
        maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      }),
    }
    session.transport.onclose = () => {
      for (const [id, each] of this.#sessions) if (each === session) this.#sessions.delete(id)
    }
    await server.connect(session.transport as never)
    const answer = await withSessionId(request.sessionId, () => handle(session, request))
    // Refused: nobody would ever close it.
    if (answer.status >= 300) await session.transport.close()
    return answer
  }
}

/** `request` itself, for a factory that wants its context and for a web handler alike. */
export function contextOf(request: Request, authInfo: unknown): Request & FactoryContext {
  // What a middleware that is not of the SDK has left there is passed on as it is.
  const known = authInfo === undefined ? {} : { authInfo: authInfo as AuthInfo }
  const context = { era: 'legacy' as const, ...known }
  return Object.assign(request, context, { requestInfo: request })
}

export function isServer(made: unknown): made is ConnectableServer {
  return typeof (made as Partial<ConnectableServer> | undefined)?.connect === 'function'
}

function isInitialize({ method, parsed }: AppRequest): boolean {
  return method === 'POST' && findInitialize(parsed) !== undefined
}

/** A standalone stream begins with what was said while there was none, and not with what comes next. */
function fromUnread(request: AppRequest): AppRequest {
  return { ...request, headers: { 'last-event-id': FIRST_UNREAD, ...request.headers } }
}

async function handle(session: Session, request: AppRequest): Promise<AppResponse> {
  const { transport } = session
  const { parsed, authInfo } = request
  const response = await transport.handleRequest(webRequest(request, parsed === undefined), {
    ...(parsed !== undefined && { parsedBody: parsed }),
    ...(authInfo !== undefined && { authInfo }),
  })
  const answer = fromWebResponse(response)
  return isEventStream(answer) ? { ...answer, body: new Forgotten(answer.body, session) } : answer
}

/** What the engine has read needs to be kept no longer. Rejects when the server has gone in the middle of it. */
class Forgotten implements AppBody {
  readonly #body: AppBody
  readonly #session: Session

  constructor(body: AppBody, session: Session) {
    this.#body = body
    this.#session = session
  }

  async forEach(onChunk: OnChunk): Promise<void> {
    const { unread, server } = this.#session
    await forEachChunk(this.#body, (chunk) => {
      const dealt = onChunk(chunk)
      if (dealt) return dealt.then(() => unread.read(chunk))
      unread.read(chunk)
      return undefined
    })
    if (server.gone) throw server.gone
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const { unread, server } = this.#session
    for await (const chunk of this.#body) {
      yield chunk
      unread.read(chunk)
    }
    if (server.gone) throw server.gone
  }
}

function refusal(status: number, code: number, message: string): AppResponse {
  return fromWebResponse(Response.json({ jsonrpc: '2.0', error: { code, message }, id: null }, { status }))
}

type TransportClass = new (options: object) => Transport

/** `experimental` is public on every server of the v1 line and on none of v2. */
async function transportFor(server: ConnectableServer): Promise<TransportClass> {
  const v1 = 'experimental' in server
  const name = v1 ? '@modelcontextprotocol/sdk' : '@modelcontextprotocol/server'
  try {
    const module = v1
      ? await import('@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js')
      : await import('@modelcontextprotocol/server')
    return module.WebStandardStreamableHTTPServerTransport as unknown as TransportClass
  } catch (cause) {
    throw new PersistError(
      'DRIVER_MISSING',
      `The server comes from ${name}, but that package cannot be loaded from here: npm install ${name}.`,
      { cause },
    )
  }
}
