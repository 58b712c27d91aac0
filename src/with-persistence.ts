import { randomUUID } from 'node:crypto'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { RouteFunction } from './app/function-app.ts'
import type { Next } from './app/node-app.ts'
import { resolveApp, type WrappableApp } from './app/resolve-app.ts'
import { delay, monotonicNow } from './clock.ts'
import { errorText, isPersistError, PersistError } from './errors.ts'
import { Doors } from './http/doors.ts'
import { DrainingServer } from './http/draining-server.ts'
import { type Call, callOf } from './http/mounts.ts'
import type { FetchOptions } from './http/serve-fetch.ts'
import { serveUpgrades } from './http/upgrade.ts'
import { withoutQuery } from './logger.ts'
import { type PersistOptions, resolveOptions } from './options.ts'
import { Engine } from './session/engine.ts'
import { MemoryEventStore } from './store/memory/memory-store.ts'
import { openStore } from './store/open-store.ts'
import type { Store } from './store/store.ts'
import { warnOfOtherUnit } from './units.ts'

// Milliseconds that open connections get to end by themselves after the last call.
const LINGER = 1000
// Milliseconds that a moment to stop listening is waited for; half of the deadline, where that is less.
const ACCEPT = 2000

/** A request handler in all the shapes that frameworks want. */
export interface PersistentHandler {
  /** Node, Express, Connect; a Fastify request and reply; a Hono or Koa context. */
  (req: IncomingMessage, res: ServerResponse, next?: Next): void
  (request: object, second?: unknown, next?: unknown): unknown
  /** Web-standard. */
  fetch(request: Request, options?: FetchOptions): Promise<Response>
  /**
   * Like `http.Server.listen`; returns the server. It begins to listen when the store has been looked at, and emits
   * `error` instead where `ready()` would reject.
   */
  listen: Server['listen']
  /**
   * Settles when the store has been opened and looked at, and rejects with what waiting cannot mend: a missing driver, a
   * database that is not migrated, a wrong URL, a store that is to be read only. A store that is merely away is logged: requests get 503 until it is back.
   */
  ready(): Promise<void>
  /**
   * Drains: takes no new sessions, lets running calls finish for `deadline` ms (default 10,000), gives the sessions up,
   * ends the clients' streams so that they resume elsewhere, and closes what it opened itself (servers of `listen`,
   * a store given as a URL). Idempotent.
   */
  close(options?: { deadline?: number }): Promise<void>
  /** `await using handler = withPersistence(...)` closes it at the end of its block, as `close()` does. */
  [Symbol.asyncDispose](): Promise<void>
  readonly store: Store
}

/**
 * Makes an MCP server over Streamable HTTP outlive its process.
 *
 * @param app an existing HTTP app (Express, Fastify, Koa, Nest, Hono, a Node listener, `(request) => Response`, `{ url }`), or a
 * server factory; `{ listener }`, `{ fetch }` and `{ factory }` say which it is, where that cannot be seen
 * @param store a connection URL such as `sqlite:mcp.db`, or a store; one given as an object is yours to close
 * @param options seconds to live (default 3600), or an options object
 * @throws PersistError `INVALID_ARGUMENT` with a sentence that guesses the mistake
 *
 * @example
 * withPersistence(app, process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600).listen(3000)
 */
export function withPersistence(
  app: RouteFunction,
  store: string | Store,
  options?: number | PersistOptions,
): PersistentHandler
/** The same for whatever else is an app. */
export function withPersistence(
  app: WrappableApp,
  store: string | Store,
  options?: number | PersistOptions,
): PersistentHandler
export function withPersistence(
  app: WrappableApp,
  store: string | Store,
  options?: number | PersistOptions,
): PersistentHandler {
  const resolved = resolveApp(app)
  const settings = resolveOptions(options, resolved)
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
  const doors = new Doors({ resolved, settings, engine })

  function node({ req, res, next }: NodeCall, mounted: boolean): void {
    doors.node(req, res, { next, mounted }).catch((error: unknown) => {
      const url = withoutQuery(req.url ?? '')
      settings.logger.error({ url, error: errorText(error) }, 'a request could not be answered')
      res.destroy()
    })
  }

  /** What waiting cannot mend, or undefined; anything else is the store's to recover from. */
  async function flaw(): Promise<unknown> {
    try {
      await opened.ready()
      // It may be there to be read only: a replica, a file of somebody else's. A log that is nobody's tells.
      await opened.log.delete(randomUUID())
    } catch (error) {
      if (!isPersistError(error, 'STORE_UNAVAILABLE') && !isPersistError(error, 'OVERLOADED')) return error
      settings.logger.error(
        { operation: 'ready', backend: opened.backend, error: errorText(error) },
        'the store is away; new sessions are answered with 503 until it is back',
      )
    }
    return undefined
  }

  let closing: Promise<void> | undefined
  async function close({ deadline = 10_000 } = {}): Promise<void> {
    warnOfOtherUnit(settings.logger, { milliseconds: { deadline } })
    doors.draining = true
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
    doors.closed = true
    await engine.close()
    for (const server of servers) server.closeAllConnections()
    await ended
    await resolved.app.close()
    if (typeof store === 'string') await opened.close()
  }

  const closeOnce = (options?: { deadline?: number }) => {
    closing ??= close(options)
    return closing
  }

  const handler = (first: object, second?: unknown, third?: unknown): unknown => {
    const call = callOf(first, second, third)
    return 'request' in call ? doors.fetch(call.request) : node(call, true)
  }

  return Object.assign(handler, {
    fetch: (request: Request, fetchOptions?: FetchOptions) => doors.fetch(request, fetchOptions),
    listen: (...args: unknown[]) => {
      const server = new DrainingServer((req, res) => node({ req, res }, false))
      servers.add(server)
      void server.listenWhen(async () => {
        const wrong = await flaw()
        if (wrong !== undefined) return wrong
        const takeOver = await resolved.upgrade?.()
        if (takeOver) serveUpgrades(server, (req) => doors.leavesHttp(req), takeOver)
        return undefined
      }, args)
      return server
    },
    ready: async () => {
      const wrong = await flaw()
      if (wrong !== undefined) throw wrong
    },
    close: closeOnce,
    [Symbol.asyncDispose]: () => closeOnce(),
    store: opened,
  }) as PersistentHandler
}

type NodeCall = Extract<Call, { req: unknown }>

function checkStore(store: Store): Store {
  if (store && typeof store.forSession === 'function' && typeof store.log?.append === 'function') return store
  throw new PersistError(
    'INVALID_ARGUMENT',
    'withPersistence needs a store as its second argument: a URL such as "sqlite:mcp.db", or new SqliteEventStore("mcp.db").',
  )
}
