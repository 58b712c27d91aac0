import type { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { maskUrl, PersistError } from '../errors.ts'
import { withoutQuery } from '../logger.ts'
import type { App } from './app.ts'
import { FactoryApp, type ServerFactory } from './factory-app.ts'
import { FetchApp, type Fetcher } from './fetch-app.ts'
import { type Next, NodeApp, type NodeListener } from './node-app.ts'
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

/** What `withPersistence` wraps. */
export type WrappableApp =
  | ((req: never, res: never, next: never) => unknown)
  | ServerFactory
  | FastifyLike
  | KoaLike
  | Fetcher
  /** A function is asked for each request: of a server that moves, or is nowhere for a while. */
  | { readonly url: string | URL | (() => URL | undefined) }
  | { readonly stdio: StdioServer }

export type TakeOver = (req: IncomingMessage, socket: Socket, head: Buffer) => void

export interface ResolvedApp {
  readonly kind: 'node' | 'fetch' | 'url' | 'factory'
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
  if (typeof app === 'function') {
    // Hono and Express apps are both made by calling something; Express apps are functions, Hono apps are objects.
    if (app.length >= 2) {
      const listener = () => app as unknown as NodeListener
      return {
        ...node(listener),
        http1Only: 'request' in app && 'response' in app,
        persistent: has(app, 'fetch', 'close') && 'store' in app,
      }
    }
    if (isConstructor(app))
      throw refuse('a class', 'pass a function that makes a server: () => new McpServer(...)')
    return { kind: 'factory', app: new FactoryApp(app as ServerFactory) }
  }
  if (typeof app !== 'object' || app === null) {
    const got = app === null ? 'null' : app === undefined ? 'nothing' : `a ${typeof app}`
    throw refuse(got, 'was the app awaited, exported, imported?')
  }
  // A Fastify instance can be awaited too, so it is looked for before a promise is.
  if (has<FastifyLike>(app, 'routing', 'ready')) return fastify(app)
  if (has<{ then: unknown }>(app, 'then')) throw refuse('a promise', 'await it first')
  if (has<KoaLike>(app, 'callback') && 'middleware' in app) return node(once(() => app.callback()))
  if (has<Fetcher>(app, 'fetch')) return web(app)
  if ('url' in app && (typeof app.url === 'string' || app.url instanceof URL)) return remote(checked(app.url))
  if (has<{ url: () => URL | undefined }>(app, 'url')) return remote(() => app.url())
  if ('stdio' in app) return stdio(app.stdio)
  if (has(app, 'connect')) {
    throw refuse('a server', 'one server serves one session: pass a factory, () => new McpServer(...)')
  }
  if (has(app, 'handleRequest')) {
    throw refuse('a transport', 'pass the app that routes to it, or a factory, () => new McpServer(...)')
  }
  if (has(app, 'listen', 'close')) {
    throw refuse('an HTTP server', 'pass its request listener, the function given to createServer()')
  }
  throw refuse(
    `an object with the keys ${Object.keys(app).slice(0, 5).join(', ') || '(none)'}`,
    'look at the argument',
  )
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
    throw refuse(named(text), 'it must start with http:// or https://')
  }
  if (url.search !== '' || url.hash !== '')
    throw refuse(named(text), 'it must end with the path, for each request brings a query of its own')
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
    throw refuse('a stdio server without a command', 'name the program: { stdio: { command, args } }')
  return { kind: 'factory', app: new StdioApp(server), maxSessions: MAX_PROCESSES }
}

/** Without what is nobody's business: a password, a key in the query. */
function named(url: string): string {
  return `the url "${withoutQuery(maskUrl(url))}"`
}

function refuse(got: string, hint: string): PersistError {
  return new PersistError(
    'INVALID_ARGUMENT',
    `withPersistence got ${got} as its app: ${hint}. It takes an Express app or another (req, res) listener, a Fastify ` +
      'or Koa instance, anything with fetch(request) such as Hono, { url }, { stdio }, or a server factory.',
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
