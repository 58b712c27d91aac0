import type { IncomingMessage, ServerResponse } from 'node:http'
import { isAppGone } from '../app/app.ts'
import type { Next } from '../app/node-app.ts'
import type { ResolvedApp } from '../app/resolve-app.ts'
import { errorText } from '../errors.ts'
import { withoutQuery } from '../logger.ts'
import type { Settings } from '../options.ts'
import type { Engine } from '../session/engine.ts'
import { type Answer, refuse, sessionNotFound, shuttingDown } from '../session/protocol/answer.ts'
import { type Endpoint, Endpoints, plainName } from './endpoints.ts'
import { hostOf } from './headers.ts'
import { type Malformed, type RequestShape, shapeOf } from './request-shape.ts'
import { type FetchOptions, serveFetch } from './serve-fetch.ts'
import { isRead, type ParsedRequest, serveNode } from './serve-node.ts'
import type { Service } from './service.ts'

/** For a request that is none of the endpoint's, when the server behind `{ url }` does not answer it. */
const NO_ANSWER = {
  headers: { 'content-type': 'text/plain' },
  body: 'The server behind this one did not answer.\n',
}

export interface DoorsOptions {
  readonly resolved: ResolvedApp
  readonly settings: Settings
  readonly engine: Engine
}

/** Where a request belongs. */
type Way =
  /** To an MCP endpoint; the app gets this url. `canonical`: the same as the option "path" spells it, where that differs. */
  | { readonly url: string; readonly endpoint: string; readonly canonical?: string }
  /** To the app, untouched. */
  | { readonly app: RequestShape }
  | { readonly refusal: Answer }

/** All ways in: decides for each request, by its shape and before anything is read, whether it is the engine's or the app's. */
export class Doors {
  readonly #options: DoorsOptions
  readonly #endpoints: Endpoints
  #warned = false
  /** Connections are not kept for another request. */
  draining = false
  /** The engine has left: it is asked nothing any more. */
  closed = false

  constructor(options: DoorsOptions) {
    this.#options = options
    this.#endpoints = new Endpoints(options.settings.paths)
  }

  /** `mounted`: somebody else's server or router leads here. */
  async node(
    req: ParsedRequest,
    res: ServerResponse,
    { next, mounted }: { next?: Next | undefined; mounted: boolean },
  ): Promise<void> {
    if (this.draining) res.shouldKeepAlive = false
    const { resolved, engine } = this.#options
    const { url = '/', headers } = req
    const host = hostOf(req)
    const inner = shapeOf(url, host)
    const outer =
      req.originalUrl === undefined || req.originalUrl === url ? inner : shapeOf(req.originalUrl, host)
    const way = await this.#guarded(this.#way(inner, outer, mounted), req.method, headers['mcp-session-id'])
    if ('endpoint' in way) return serveNode(req, res, this.#service(way))
    if ('refusal' in way) return serveNode(req, res, this.#refusing(way.refusal))
    this.#watch(req.method, headers, way.app)
    // A server elsewhere is for what nobody in this process wants.
    if (next && (!resolved.passNode || resolved.kind === 'url')) return next()
    // Express knows a body that has been read, and no HTTP/2; others the other way round: they would wait for ever.
    const asItIs = resolved.http1Only ? req.httpVersionMajor < 2 : !isRead(req)
    if (resolved.kind === 'factory') return serveNode(req, res, this.#refusing(this.#nothingHere()))
    if (resolved.passNode && asItIs) return this.#passNode(req, res, way.app.url, next)
    return serveNode(req, res, passing(engine, way.app.url))
  }

  async fetch(request: Request, options: FetchOptions = {}): Promise<Response> {
    const { resolved, engine } = this.#options
    const { pathname, search, host } = new URL(request.url)
    const shape = shapeOf(pathname + search, request.headers.get('host') ?? host)
    const headers = watched(request.headers)
    const way = await this.#guarded(this.#way(shape, shape, true), request.method, headers['mcp-session-id'])
    if ('endpoint' in way) return serveFetch(request, options, this.#service(way))
    if ('refusal' in way) return serveFetch(request, options, this.#refusing(way.refusal))
    this.#watch(request.method, headers, way.app)
    if (resolved.passFetch) return this.#passFetch(request)
    return serveFetch(request, options, passing(engine, way.app.url))
  }

  /**
   * May the app take over this connection? Not on the endpoint, not with a session, and not for HTTP/2, which nobody speaks on
   * such a connection.
   */
  leavesHttp(req: IncomingMessage): boolean {
    const { url = '/', headers } = req
    if (headers['mcp-session-id'] !== undefined || /\bh2c\b/i.test(headers.upgrade ?? 'h2c')) return false
    const shape = shapeOf(url, hostOf(req))
    return 'app' in this.#way(shape, shape, false)
  }

  async #passNode(req: ParsedRequest, res: ServerResponse, url: string, next?: Next): Promise<void> {
    try {
      await this.#options.resolved.passNode!(req, res, url, next)
    } catch (error) {
      if (!isAppGone(error)) throw error
      void this.#passFailed(url, error)
      if (res.headersSent) res.destroy()
      else res.writeHead(502, NO_ANSWER.headers).end(NO_ANSWER.body)
    }
  }

  async #passFetch(request: Request): Promise<Response> {
    try {
      return await this.#options.resolved.passFetch!(request)
    } catch (error) {
      if (!isAppGone(error)) throw error
      if (!request.signal.aborted) void this.#passFailed(request.url, error)
      return new Response(NO_ANSWER.body, { status: 502, headers: NO_ANSWER.headers })
    }
  }

  /** That the app is away is said once; not again for each request. */
  async #passFailed(url: string, error: unknown): Promise<void> {
    const { resolved, settings } = this.#options
    if (await resolved.app.presence?.check()) return
    settings.logger.error({ url: withoutQuery(url), error: errorText(error) }, 'the app did not answer')
  }

  /** `outer` is the request as it came, `inner` what the router in front of us has left of it. */
  #way(inner: RequestShape | Malformed, outer: RequestShape | Malformed, mounted: boolean): Way {
    for (const shape of [outer, inner]) {
      if ('malformed' in shape) return { refusal: refuse(400, `Bad Request: ${shape.malformed}`) }
    }
    const [left, came] = [inner as RequestShape, outer as RequestShape]
    const here = this.#endpoints.find(left)
    const whole = came === left ? here : this.#endpoints.find(came)
    // A route answers wherever it is mounted; an app has its own idea of its other paths.
    if (this.#options.resolved.route && mounted)
      return { url: came.url, endpoint: whole?.name ?? plainName(came.url) }
    // What the router has taken away is a part of where the client is: a tenant, perhaps.
    if (here) return spelt(left, came === left ? here : { ...here, name: prefixOf(came, left) + here.name })
    if (!whole) return { app: left }
    // Where nothing is left, it was mounted at the endpoint itself.
    if (left.path === '/') return spelt(came, whole)
    // `path` with the prefix in it: the app sees the rest, and nobody knows how the rest of another spelling would be spelt.
    return isCanonical(came, whole) ? { url: left.url, endpoint: whole.name } : { app: left }
  }

  /**
   * An app may know a session by more ways than its endpoint: by a spelling that is none of ours, by a second route. Whoever
   * comes that way with the id of a session that is here has not been looked at, and gets no further. And a method in small
   * letters, which HTTP/2 lets through, is another one to us than to an app behind `fetch`.
   */
  async #guarded(way: Way, method: string | undefined, header: string | string[] | undefined): Promise<Way> {
    if ('endpoint' in way && method !== method?.toUpperCase())
      return { refusal: refuse(400, 'Bad Request: A method is written in capital letters.') }
    if (header === undefined || !('app' in way)) return way
    const { engine, resolved } = this.#options
    // A header that stands twice is one with a comma, for Node and for `Headers`; an app may look at either part.
    const ids = String(header).split(',')
    for (const id of new Set([String(header), ...ids].map((each) => each.trim()))) {
      const known = await engine.knows(id, { anywhere: resolved.kind === 'url' }).catch(() => undefined)
      // The store is away: nobody can say.
      if (known === undefined) return { refusal: refuse(503, 'Try again.', { retryAfter: 1 }) }
      if (known) return { refusal: sessionNotFound() }
    }
    return way
  }

  #service({ url, ...at }: Extract<Way, { endpoint: string }>): Service {
    const { engine, settings, resolved } = this.#options
    if (this.closed) return this.#refusing(shuttingDown())
    return {
      url,
      body: { limit: settings.maxBodyBytes },
      joinsLines: resolved.kind === 'fetch' || resolved.kind === 'url',
      answer: (request) => engine.handle(request, at),
      refuse: (answer, caller) => engine.readable(answer, caller),
    }
  }

  /** Nothing is read, and the app is not asked about anything but its CORS headers. */
  #refusing(answer: Answer): Service {
    const { home: url } = this.#endpoints
    const readable = (caller: Parameters<Service['answer']>[0]) =>
      this.#options.engine.readable(answer, { ...caller, url })
    return { url, answer: readable, refuse: (_, caller) => readable(caller) }
  }

  #nothingHere(): Answer {
    const body = `Not found. The MCP endpoint is ${this.#options.settings.paths.join(', ')}\n`
    return { status: 404, headers: [['content-type', 'text/plain']], body }
  }

  /** A client of MCP that is not at the endpoint: its session would be lost with this process, and nobody would know why. */
  #watch(method: string | undefined, headers: Watched, { path }: RequestShape): void {
    if (this.#warned || method !== 'POST' || headers['mcp-session-id'] !== undefined) return
    const { accept = '' } = headers
    if (!accept.includes('application/json') || !accept.includes('text/event-stream')) return
    if (headers['mcp-protocol-version'] !== undefined || this.#options.resolved.persistent) return
    this.#warned = true
    const { logger, paths } = this.#options.settings
    logger.warn(
      { path, endpoint: paths.join(', ') },
      'a client speaks MCP to a path that is not the endpoint: what it opens is not persistent; is the option "path" right?',
    )
  }
}

interface Watched {
  readonly accept?: string | undefined
  readonly 'mcp-session-id'?: string | string[] | undefined
  readonly 'mcp-protocol-version'?: string | string[] | undefined
}

function watched(headers: Headers): Watched {
  return {
    accept: headers.get('accept') ?? undefined,
    'mcp-session-id': headers.get('mcp-session-id') ?? undefined,
    'mcp-protocol-version': headers.get('mcp-protocol-version') ?? undefined,
  }
}

/** The url as the option "path" has it goes along where the request has another. */
function spelt(shape: RequestShape, { name: endpoint, path }: Endpoint): Way {
  const { url } = shape
  return isCanonical(shape, { path }) ? { url, endpoint } : { url, endpoint, canonical: path + queryOf(url) }
}

function isCanonical({ url }: RequestShape, { path }: Pick<Endpoint, 'path'>): boolean {
  return url.startsWith(path) && queryOf(url).length === url.length - path.length
}

function prefixOf({ url: came }: RequestShape, { url: left }: RequestShape): string {
  const prefix = came.endsWith(left) ? came.slice(0, came.length - left.length) : ''
  return prefix === '' ? '' : plainName(prefix)
}

function queryOf(url: string): string {
  return /[?#].*$/s.exec(url)?.[0] ?? ''
}

/** For requests that are none of the endpoint's: as they are, whatever their length. */
function passing(engine: Engine, url: string): Service {
  const body = { limit: Number.MAX_SAFE_INTEGER, encoded: true }
  return { url, body, answer: (request) => engine.pass(request), refuse: async (answer) => answer }
}
