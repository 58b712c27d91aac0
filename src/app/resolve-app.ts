import type { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { maskUrl, PersistError } from '../errors.ts'
import { withoutQuery } from '../logger.ts'
import type { App } from './app.ts'
import { FactoryApp, type ServerFactory } from './factory-app.ts'
import { FetchApp, type Fetcher } from './fetch-app.ts'
import { FunctionApp, type RouteFunction } from './function-app.ts'
import { type Next, NodeApp, type NodeListener } from './node-app.ts'
import { type Mistake, mistakeOf } from './not-an-app.ts'
import { StdioApp, type StdioServer } from './stdio/stdio-app.ts'
import { passFetch, passNode } from './url/pass.ts'
import { Tunnels } from './url/tunnels.ts'
import { type Place, Upstream } from './url/upstream.ts'
import { UrlApp } from './url/url-app.ts'

/** Of a stdio server, if its user says nothing. */
const MAX_PROCESSES = 100

/** A Fastify instance, as far as we use it. */
interface FastifyLike {
  readonly server: EventEmitter
  ready(): PromiseLike<unknown>
  routing(req: IncomingMessage, res: ServerResponse): void
}

/** A Koa application, as far as we use it. */
interface KoaLike {
  callback(): (req: IncomingMessage, res: ServerResponse) => unknown
}

/** A Nest application on Express or Fastify, as far as we use it. */
interface NestLike {
  init(): PromiseLike<unknown>
  getHttpAdapter(): { getInstance(): object }
}

type LazyHandler = (request: Request) => Response | null | undefined | Promise<Response | null | undefined>

/** mcp-use has its endpoint in the handler that it makes, and not in the app that it is. */
interface HandlerMaker {
  getHandler(): LazyHandler | Promise<LazyHandler>
}

/** A transport of tmcp. */
interface Responder {
  respond: LazyHandler
}

/** What `withPersistence` wraps. */
export type WrappableApp =
  | ((req: never, res: never, next: never) => unknown)
  | RouteFunction
  | FastifyLike
  | KoaLike
  | NestLike
  | HandlerMaker
  | Responder
  | Fetcher
  | { readonly listener: (req: never, res: never, next: never) => unknown }
  | { readonly factory: ServerFactory }
  /** A function is asked for each request: of a server that moves, or is nowhere for a while. */
  | { readonly url: string | URL | (() => URL | undefined) }
  | { readonly stdio: StdioServer }

export type TakeOver = (req: IncomingMessage, socket: Socket, head: Buffer) => void

export interface ResolvedApp {
  readonly kind: 'node' | 'fetch' | 'url' | 'factory'
  /** It is what stands behind one route: wherever it is mounted, there is the endpoint. */
  readonly route?: boolean
  readonly app: App
  /**
   * For requests that are none of ours: the app itself, on the client's own request and response. `next`: a router in front has
   * more to try, where the app is of those that say that a request is none of theirs.
   */
  readonly passNode?: (req: IncomingMessage, res: ServerResponse, url: string, next?: Next) => unknown
  readonly passFetch?: (request: Request) => Response | Promise<Response>
  /** Takes over an `Upgrade` request, where the app has a server of its own that does; known when the app is ready. */
  readonly upgrade?: () => Promise<TakeOver | undefined>
  /** Connections that it has taken over and holds itself. */
  readonly tunnels?: { close(): void }
  /** It cannot serve HTTP/2 on its own pair of request and response, as Express cannot. */
  readonly http1Only?: boolean
  /** It is persistent itself, and has an endpoint of its own. */
  readonly persistent?: boolean
  /** The path of the MCP endpoint where the app itself tells. */
  readonly path?: string
  /** Live sessions at the most, where nothing else is said and each costs a process. */
  readonly maxSessions?: number
}

/** Finds out what kind of app it was given; refuses anything else at once, guessing the mistake. */
export function resolveApp(app: WrappableApp): ResolvedApp {
  if (typeof app === 'function') return callable(app)
  if (typeof app !== 'object' || app === null) throw refuse(mistakeOf(app))
  // What says outright what it is comes first, and then what looks like something else too: a Fastify instance can be awaited,
  // a Nest app listens and closes like a server.
  if (has<{ listener: NodeListener }>(app, 'listener')) return listener(app.listener)
  if (has<{ factory: ServerFactory }>(app, 'factory')) return factory(app.factory)
  if (has<FastifyLike>(app, 'routing', 'ready')) return fastify(app)
  if (has<NestLike>(app, 'getHttpAdapter', 'init')) return nest(app)
  if (has<{ then: unknown }>(app, 'then')) throw refuse(mistakeOf(app))
  if (has<KoaLike>(app, 'callback') && 'middleware' in app) return node(once(() => app.callback()))
  if (has<HandlerMaker>(app, 'getHandler')) return lazyWeb(once(async () => app.getHandler()))
  if (has<Fetcher>(app, 'fetch')) return web(app)
  if (has<Responder>(app, 'respond')) return lazyWeb(() => (request) => app.respond(request))
  if ('url' in app && (typeof app.url === 'string' || app.url instanceof URL)) return remote(checked(app.url))
  if (has<{ url: () => URL | undefined }>(app, 'url')) return remote(() => app.url())
  if ('stdio' in app) return stdio(app.stdio as StdioServer)
  throw refuse(mistakeOf(app))
}

function callable(app: object): ResolvedApp {
  if (isConstructor(app))
    throw refuse({ got: 'a class', hint: 'pass a function that makes a server: () => new McpServer(...)' })
  const { length } = app as (...args: unknown[]) => unknown
  // Hono and Express apps are both made by calling something; Express apps are functions, Hono apps are objects.
  if (length >= 2) return listener(app as NodeListener)
  return length === 0 ? factory(app as ServerFactory) : either(app as RouteFunction)
}

function listener(app: NodeListener): ResolvedApp {
  return {
    ...node(() => app),
    http1Only: isExpress(app),
    persistent: has(app, 'fetch', 'close') && 'store' in app,
  }
}

function isExpress(app: object): boolean {
  return 'request' in app && 'response' in app
}

function factory(make: ServerFactory): ResolvedApp {
  return { kind: 'factory', route: true, app: new FactoryApp(make) }
}

function either(given: RouteFunction): ResolvedApp {
  const app = new FunctionApp(given)
  return {
    get kind() {
      return app.kind
    },
    route: true,
    app,
    passNode: getRequestListener((request) => app.pass(request), { overrideGlobalObjects: false }),
  }
}

function node(listener: () => NodeListener | Promise<NodeListener>): ResolvedApp {
  return {
    kind: 'node',
    app: new NodeApp(listener),
    passNode: async (req, res, _url, next) =>
      (await listener())(req, res, next && restoring([req, res], next)),
  }
}

/** Express gives request and response the methods of its own app; whoever comes behind it had others. */
function restoring(pair: readonly object[], next: Next): Next {
  const before = pair.map((each) => Object.getPrototypeOf(each) as object)
  return (error) => {
    for (const [i, each] of pair.entries()) Object.setPrototypeOf(each, before[i]!)
    next(error)
  }
}

function fastify(app: FastifyLike): ResolvedApp {
  const ready = once(async () => app.ready())
  return {
    ...node(
      once(async () => {
        await ready()
        return (req, res) => app.routing(req, res)
      }),
    ),
    upgrade: async () => {
      await ready()
      if (app.server.listenerCount('upgrade') === 0) return undefined
      return (req, socket, head) => void app.server.emit('upgrade', req, socket, head)
    },
  }
}

/** Its routes come to be in `init()`, which does nothing when it is called again. */
function nest(app: NestLike): ResolvedApp {
  const instance = app.getHttpAdapter().getInstance()
  const ready = once(async () => app.init())
  if (has<FastifyLike>(instance, 'routing', 'ready'))
    return fastify({
      server: instance.server,
      ready: () => ready().then(() => instance.ready()),
      routing: (req, res) => instance.routing(req, res),
    })
  return {
    ...node(once(() => ready().then(() => instance as NodeListener))),
    http1Only: isExpress(instance),
  }
}

/** What makes its handler when it is ready, or says with nothing that a request is not for it. */
function lazyWeb(make: () => LazyHandler | Promise<LazyHandler>): ResolvedApp {
  return web({
    fetch: async (request) =>
      (await (await make())(request)) ?? new Response('Not found.\n', { status: 404 }),
  })
}

function web(app: Fetcher): ResolvedApp {
  const listener = getRequestListener((request, env) => app.fetch(request, env), {
    overrideGlobalObjects: false,
  })
  return {
    kind: 'fetch',
    app: new FetchApp(app),
    passNode: listener,
    passFetch: (request) => app.fetch(request),
  }
}

function checked(given: string | URL): URL {
  const text = String(given)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw refuse({ got: named(text), hint: 'it must start with http:// or https://' })
  }
  if (url.search !== '' || url.hash !== '')
    throw refuse({
      got: named(text),
      hint: 'it must end with the path, because each request has its own query',
    })
  return url
}

function remote(place: Place): ResolvedApp {
  const upstream = new Upstream(place)
  const tunnels = new Tunnels(upstream)
  return {
    kind: 'url',
    app: new UrlApp(upstream),
    passNode: (req, res, target) => passNode(upstream, target, req, res),
    passFetch: (request) => passFetch(upstream, request),
    upgrade: async () => (req, socket, head) => void tunnels.open(req, socket, head),
    tunnels,
    ...(place instanceof URL && place.pathname !== '/' && { path: place.pathname }),
  }
}

function stdio(server: StdioServer): ResolvedApp {
  if (typeof server?.command !== 'string' || server.command === '')
    throw refuse({
      got: 'a stdio server without a command',
      hint: 'name the program: { stdio: { command, args } }',
    })
  return { kind: 'factory', route: true, app: new StdioApp(server), maxSessions: MAX_PROCESSES }
}

/** Without what is nobody's business: a password, a key in the query. */
function named(url: string): string {
  return `the url "${withoutQuery(maskUrl(url))}"`
}

function refuse({ got, hint }: Mistake): PersistError {
  return new PersistError(
    'INVALID_ARGUMENT',
    `withPersistence got ${got} as its app: ${hint}. It takes an Express app or another (req, res) listener, a Fastify, ` +
      'Koa or Nest app, anything with fetch(request) such as Hono, a handler (request) => Response, a server factory, or one of ' +
      '{ listener }, { fetch }, { factory }, { url }, { stdio }.',
  )
}

function has<T>(value: object, ...methods: (keyof T & string)[]): value is T & object {
  return methods.every((method) => typeof (value as Record<string, unknown>)[method] === 'function')
}

function isConstructor(value: object): boolean {
  return /^class\b/.test(Function.prototype.toString.call(value))
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}
