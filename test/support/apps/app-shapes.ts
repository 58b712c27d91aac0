import type { RequestListener } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { nodeApp } from './frameworks/node.ts'
import { loadSdk, type SdkLine } from './sdk-lines.ts'
import { type AppOptions, webSessions } from './sessions.ts'

export interface BuiltApp {
  /** What a user hands to `withPersistence`. */
  readonly app: unknown
  /** The same app as it is served without us: the measure of "as without us". */
  unwrapped(): RequestListener | Promise<RequestListener>
}

export interface AppShape {
  readonly name: string
  readonly sdk: SdkLine
  /** A factory has no HTTP of its own: no other routes, no session map, no auth. */
  readonly kind: 'app' | 'factory'
  /** Does it know `auth` and `cors`? */
  readonly guarded: boolean
  build(options: AppOptions): Promise<BuiltApp>
}

function fetchListener(app: { fetch(request: Request): Response | Promise<Response> }): RequestListener {
  const handle = getRequestListener((request) => app.fetch(request))
  return (req, res) => void handle(req, res)
}

// What a shape is made of is loaded by those that build it: a process loads one framework and one SDK of all of them.

async function express(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const { express5App } = await import('./frameworks/express5.ts')
  const app = await express5App(sdk, options)
  return { app, unwrapped: () => app }
}

async function express4(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const { express4App } = await import('./frameworks/express4.ts')
  const app = await express4App(sdk, options)
  return { app, unwrapped: () => app }
}

async function fastify(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const { fastifyApp } = await import('./frameworks/fastify.ts')
  const app = fastifyApp(sdk, options)
  const unwrapped = async (): Promise<RequestListener> => {
    await app.ready()
    return (req, res) => app.routing(req, res)
  }
  return { app, unwrapped }
}

async function koa(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const { koaApp } = await import('./frameworks/koa.ts')
  const app = koaApp(sdk, options)
  return { app, unwrapped: () => app.callback() as RequestListener }
}

async function node(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const app = nodeApp(sdk, options)
  return { app, unwrapped: () => app }
}

async function hono(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const { honoApp } = await import('./frameworks/hono.ts')
  const app = honoApp(sdk, options)
  return { app, unwrapped: () => fetchListener(app) }
}

async function factory(sdk: SdkLine, options: AppOptions): Promise<BuiltApp> {
  const { journal } = options
  const { buildServer } = await loadSdk(sdk)
  // Without us, somebody has to write the session map: the smallest one, with the SDK's in-memory event store.
  const sessions = webSessions(sdk, { eventStore: true, ...options })
  const app = sdk === 'v1' ? () => buildServer(journal) : async () => buildServer(journal)
  return { app, unwrapped: () => fetchListener({ fetch: (request) => sessions(request) }) }
}

function shape(
  name: string,
  sdk: SdkLine,
  build: (sdk: SdkLine, options: AppOptions) => Promise<BuiltApp>,
  facts: { guarded?: boolean; kind?: 'app' | 'factory' } = {},
): AppShape {
  const { guarded = false, kind = 'app' } = facts
  return { name, sdk, kind, guarded, build: (options) => build(sdk, options) }
}

/** Every way in which users write an MCP server over Streamable HTTP, none of which knows of this package. */
export const appShapes: readonly AppShape[] = [
  shape('express5', 'v1', express, { guarded: true }),
  shape('express4', 'v1', express4, { guarded: true }),
  shape('fastify', 'v1', fastify),
  shape('koa', 'v1', koa),
  shape('node', 'v1', node),
  shape('hono', 'v1', hono, { guarded: true }),
  shape('factory', 'v1', factory, { kind: 'factory' }),
  shape('express5-v2', 'v2', express, { guarded: true }),
  shape('node-v2', 'v2', node),
  shape('hono-v2', 'v2', hono, { guarded: true }),
  shape('factory-v2', 'v2', factory, { kind: 'factory' }),
]

export function appShape(name: string): AppShape {
  const found = appShapes.find((candidate) => candidate.name === name)
  if (!found) throw new Error(`No app shape ${name}; there are ${appShapes.map((s) => s.name).join(', ')}`)
  return found
}
