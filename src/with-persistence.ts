import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { isAppGone } from './app/app.ts'
import { resolveApp, type WrappableApp } from './app/resolve-app.ts'
import { delay, monotonicNow } from './clock.ts'
import { errorText, PersistError } from './errors.ts'
import { DrainingServer } from './http/draining-server.ts'
import { type FetchOptions, serveFetch } from './http/serve-fetch.ts'
import { type ParsedRequest, serveNode } from './http/serve-node.ts'
import { serveUpgrades } from './http/upgrade.ts'
import { type PersistOptions, resolveOptions } from './options.ts'
import { Engine } from './session/engine.ts'
import { MemoryEventStore } from './store/memory/memory-store.ts'
import { openStore } from './store/open-store.ts'
import type { Store } from './store/store.ts'

// Milliseconds that open connections get to end by themselves after the last call.
const LINGER = 1000
// Milliseconds that a moment to stop listening is waited for; half of the deadline, where that is less.
const ACCEPT = 2000

/** For a request that is none of the endpoint's, when the server behind `{ url }` does not answer it. */
const NO_ANSWER = {
  headers: { 'content-type': 'text/plain' },
  body: 'The server behind this one did not answer.\n',
}

/** A request handler in all the shapes that frameworks want. */
export interface PersistentHandler {
  /** Node, Express, Connect; a Fastify request and reply; a Hono or Koa context. */
  (req: IncomingMessage, res: ServerResponse, next?: (error?: unknown) => void): void
  (request: object, second?: unknown, next?: unknown): unknown
  /** Web-standard. */
  fetch(request: Request, options?: FetchOptions): Promise<Response>
  /** Like `http.Server.listen`; returns the server. */
  listen: Server['listen']
  /**
   * Drains: takes no new sessions, lets running calls finish for `deadline` ms (default 10,000), gives the sessions up,
   * ends the clients' streams so that they resume elsewhere, and closes what it opened itself (servers of `listen`,
   * a store given as a URL). Idempotent.
   */
  close(options?: { deadline?: number }): Promise<void>
  readonly store: Store
}

/**
 * Makes an MCP server over Streamable HTTP outlive its process.
 *
 * @param app an existing HTTP app (Express, Fastify, Koa, Hono, a Node listener, `{ url }`), or a server factory
 * @param store a connection URL such as `sqlite:mcp.db`, or a store; one given as an object is yours to close
 * @param options seconds to live (default 3600), or an options object
 * @throws PersistError `INVALID_ARGUMENT` with a sentence that guesses the mistake
 *
 * @example
 * withPersistence(app, process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600).listen(3000)
 */
export function withPersistence(
  app: WrappableApp,
  store: string | Store,
  options?: number | PersistOptions,
): PersistentHandler {
  const resolved = resolveApp(app)
  const settings = resolveOptions(options, resolved.path)
  const opened = typeof store === 'string' ? openStore(store, { logger: settings.logger }) : checkStore(store)
  const directory = settings.sticky ? new MemoryEventStore() : opened
  const engine = new Engine({
    app: resolved.app,
    log: opened.log,
    directory,
    settings,
    sweep: async (limit) => {
      const results = await Promise.all(
        [...new Set([opened, directory])].map((each) => each.sweep({ limit })),
      )
      return results.some(({ more }) => more)
    },
  })
  const servers = new Set<DrainingServer>()
  const isEndpoint = (path: string) => path === settings.path || path === `${settings.path}/`
  /** Not on the endpoint, not with a session, and not to HTTP/2, which we do not speak on such a connection. */
  const leavesHttp = ({ url = '/', headers }: IncomingMessage) =>
    !isEndpoint(url.split('?', 1)[0]!) &&
    headers['mcp-session-id'] === undefined &&
    !/\bh2c\b/i.test(headers.upgrade ?? 'h2c')

  function node(
    req: ParsedRequest,
    res: ServerResponse,
    next?: (error?: unknown) => void,
    mounted = true,
  ): void {
    if (draining) res.shouldKeepAlive = false
    const path = (req.originalUrl ?? req.url ?? '/').split('?', 1)[0]!
    // A factory answers wherever it is mounted; an app has its own idea of its other paths.
    if ((resolved.kind === 'factory' && mounted) || isEndpoint(path)) {
      serveNode(req, res, settings.maxBodyBytes, (request) => engine.handle(request)).catch((error) => {
        settings.logger.error({ error: String(error) }, 'a response could not be written')
        res.destroy()
      })
    } else if (resolved.passNode && !(next && resolved.kind === 'url')) {
      Promise.resolve(resolved.passNode(req, res)).catch((error: unknown) => {
        void passFailed(req.url, error)
        if (!isAppGone(error) || res.headersSent) res.destroy()
        else res.writeHead(502, NO_ANSWER.headers).end(NO_ANSWER.body)
      })
    } else if (next) {
      next()
    } else {
      res
        .writeHead(404, { 'content-type': 'text/plain' })
        .end(`Not found. The MCP endpoint is ${settings.path}\n`)
    }
  }

  async function fetch(request: Request, fetchOptions: FetchOptions = {}): Promise<Response> {
    const { pathname } = new URL(request.url)
    if (resolved.kind !== 'factory' && !isEndpoint(pathname)) {
      if (resolved.passFetch) return passed(request, resolved.passFetch)
      return serveFetch(request, fetchOptions, Number.MAX_SAFE_INTEGER, (each) => engine.pass(each))
    }
    return serveFetch(request, fetchOptions, settings.maxBodyBytes, (each) => engine.handle(each))
  }

  async function passed(
    request: Request,
    pass: (request: Request) => Response | Promise<Response>,
  ): Promise<Response> {
    try {
      return await pass(request)
    } catch (error) {
      if (!isAppGone(error)) throw error
      if (!request.signal.aborted) void passFailed(request.url, error)
      return new Response(NO_ANSWER.body, { status: 502, headers: NO_ANSWER.headers })
    }
  }

  /** That the app is away is said once; not again for each request. */
  async function passFailed(url: string | undefined, error: unknown): Promise<void> {
    if (await resolved.app.presence?.check()) return
    const what = isAppGone(error) ? 'the app did not answer' : 'the app threw'
    settings.logger.error({ url, error: errorText(error) }, what)
  }

  let draining = false
  let closing: Promise<void> | undefined
  async function close({ deadline = 10_000 } = {}): Promise<void> {
    draining = true
    const until = monotonicNow() + deadline
    const left = () => Math.max(0, until - monotonicNow())
    // New connections go elsewhere first: what the drain cuts comes again at once. Those that are open are served until
    // they have what they asked for.
    await Promise.all([...servers].map((server) => server.stopListening(Math.min(ACCEPT, deadline / 2))))
    resolved.tunnels?.close()
    let connected = servers.size > 0
    const ended = Promise.all([...servers].map((server) => server.ended(left()))).then(() => {
      connected = false
    })
    await engine.drain(left(), () => connected)
    await Promise.race([ended, delay(LINGER)])
    await engine.close()
    for (const server of servers) server.closeAllConnections()
    await ended
    await resolved.app.close()
    if (typeof store === 'string') await opened.close()
  }

  const handler = (first: object, second?: unknown, third?: unknown): unknown => {
    const mount = mountOf(first, second)
    if (mount === 'node') return node(first as ParsedRequest, second as ServerResponse, third as () => void)
    if (mount === 'fastify') {
      const { raw, body, auth } = first as { raw: IncomingMessage; body?: unknown; auth?: unknown }
      const reply = second as { raw: ServerResponse; hijack(): void }
      reply.hijack()
      return node(Object.assign(raw, { body, auth: auth ?? (raw as ParsedRequest).auth }), reply.raw)
    }
    if (mount === 'koa') {
      const context = first as {
        req: IncomingMessage
        res: ServerResponse
        respond: boolean
        request: { body?: unknown }
      }
      context.respond = false
      return node(Object.assign(context.req, { body: context.request.body }), context.res)
    }
    if (mount === 'hono') return fetch((first as { req: { raw: Request } }).req.raw)
    throw new PersistError(
      'INVALID_ARGUMENT',
      'The handler was called with neither (req, res) nor the context of Fastify, Koa or Hono; use handler.fetch(request) for anything else.',
    )
  }

  return Object.assign(handler, {
    fetch,
    listen: (...args: unknown[]) => {
      const server = new DrainingServer((req, res) => node(req, res, undefined, false))
      servers.add(server)
      const { tunnels } = resolved
      if (tunnels) serveUpgrades(server, leavesHttp, (...upgrade) => void tunnels.open(...upgrade))
      return Reflect.apply(server.listen, server, args)
    },
    close: (closeOptions?: { deadline?: number }) => {
      closing ??= close(closeOptions)
      return closing
    },
    store: opened,
  }) as PersistentHandler
}

function mountOf(first: object, second: unknown): 'node' | 'fastify' | 'koa' | 'hono' | undefined {
  if (second !== null && typeof second === 'object') {
    if ('writeHead' in second && 'method' in first) return 'node'
    if ('hijack' in second && 'raw' in first) return 'fastify'
  }
  if ('req' in first && 'res' in first && 'respond' in first) return 'koa'
  if ('req' in first && 'raw' in (first.req as object)) return 'hono'
  if ('req' in first && 'res' in first && 'request' in first) return 'koa'
  return undefined
}

function checkStore(store: Store): Store {
  if (store && typeof store.forSession === 'function' && typeof store.log?.append === 'function') return store
  throw new PersistError(
    'INVALID_ARGUMENT',
    'withPersistence needs a store as its second argument: a URL such as "sqlite:mcp.db", or new SqliteEventStore("mcp.db").',
  )
}
