import { PersistError } from '../errors.ts'
import type { App, AppRequest, AppResponse } from './app.ts'
import {
  type ConnectableServer,
  contextOf,
  FactoryApp,
  type FactoryContext,
  isServer,
  type ServerFactory,
} from './factory-app.ts'
import { withSessionId } from './persistent-session-id.ts'
import { fromWebResponse, notForFetch, webRequest } from './web.ts'

type Made = Response | ConnectableServer

/** Either of the two, by what they have in common. */
export type RouteFunction = (request: Request & FactoryContext) => Made | Promise<Made>

/**
 * A function of one parameter is a server factory or a web handler. What it returns tells, the first time that it is called.
 * Until then each call may be one of both: so it gets what fits both, the request with a factory's context on it.
 */
export class FunctionApp implements App {
  readonly #function: RouteFunction
  readonly #factory: FactoryApp
  #kind: 'factory' | 'fetch' | undefined

  constructor(given: RouteFunction) {
    this.#function = given
    this.#factory = new FactoryApp(given as ServerFactory)
  }

  /** As long as nobody knows, it may be a handler that has more paths than the endpoint. */
  get kind(): 'factory' | 'fetch' {
    return this.#kind ?? 'fetch'
  }

  async fetch(request: AppRequest): Promise<AppResponse> {
    if (this.#kind === 'factory') return this.#factory.fetch(request)
    const refused = notForFetch(request)
    if (refused) return refused
    const { sessionId, authInfo } = request
    const made = await withSessionId(sessionId, () => this.#call(webRequest(request), authInfo))
    return isServer(made) ? this.#factory.fetch(request, made) : fromWebResponse(made)
  }

  /** A request that is not for the endpoint: a factory has nothing else. */
  async pass(request: Request): Promise<Response> {
    const made = this.#kind === 'factory' ? undefined : await this.#call(request, undefined)
    if (made && !isServer(made)) return made
    await made?.close()
    return new Response('Not found.\n', { status: 404, headers: { 'content-type': 'text/plain' } })
  }

  async close(): Promise<void> {
    await this.#factory.close()
  }

  async #call(request: Request, authInfo: unknown): Promise<Made> {
    const made: unknown = await this.#function(contextOf(request, authInfo))
    if (isServer(made)) this.#kind ??= 'factory'
    else if (isResponse(made)) this.#kind ??= 'fetch'
    else throw returned(made)
    return made
  }
}

/** Of whatever realm or package: frameworks have their own. */
export function isResponse(made: unknown): made is Response {
  const { status, headers } = (made ?? {}) as Partial<Response>
  return typeof status === 'number' && typeof headers?.get === 'function'
}

function returned(made: unknown): PersistError {
  const what = made === undefined ? 'nothing' : 'neither a Response nor a server with connect()'
  return new PersistError(
    'INVALID_ARGUMENT',
    `The function given to withPersistence returned ${what}. A web handler returns a Response; a factory returns a new McpServer ` +
      'each time it is called; a function that writes its answer is given as { listener: (req, res) => … }.',
  )
}
