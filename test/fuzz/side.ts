import type { RequestListener } from 'node:http'
import http2 from 'node:http2'
import { getRequestListener } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import type { Store, WrappableApp } from '../../src/index.ts'
import { type Guard, guardedApp, nodeListener } from '../support/apps/guarded.ts'
import { buildServerV1 } from '../support/apps/server-v1.ts'
import { type Listening, listen, listening } from '../support/net/listen.ts'
import { Http2Wire, withoutFraming } from './http2-wire.ts'
import type { Framework, Kind } from './kinds.ts'
import type { Package } from './package.ts'
import type { Plan } from './plan.ts'
import { type Names, render } from './render.ts'
import { type Outcome, Wire } from './wire.ts'

/** One server that requests go to. */
export interface Node {
  readonly url: string
  /** For requests with nothing wrong about them. */
  readonly wire: Wire
  /** Undefined: this cannot be said to such a server. */
  ask(plan: Plan, names: Names): Promise<Outcome | undefined>
  close(): Promise<void>
}

/** The app as its author serves it. */
export async function unwrappedNode({ framework, face }: Kind, guard: Guard): Promise<Node> {
  const served = await listen(await listenerOf(framework, guard))
  const node = http1Node(served, served.close)
  if (!face) return node
  const meant = face === 'HTTP/2' ? withoutFraming : withoutDots
  return { ...node, ask: (plan, names) => node.ask(meant(plan), names) }
}

/** `Request` has resolved the dot segments of a path before anybody sees it. */
function withoutDots(plan: Plan): Plan {
  const { target } = plan
  const url = `http://localhost${target}`
  if (!/(?:\.|%2e)/i.test(target) || !target.startsWith('/') || !URL.canParse(url)) return plan
  const { pathname, search } = new URL(url)
  return { ...plan, target: pathname + search }
}

/** The same app, wrapped. */
export async function wrappedNode(
  kind: Kind,
  guard: Guard,
  { pkg, store, log }: { pkg: Package; store: Store; log: (line: string) => void },
): Promise<Node> {
  const { framework, identity, face } = kind
  const behind = framework === 'url' ? await listen(await listenerOf('url', guard)) : undefined
  const app = behind ? { url: behind.origin } : appOf(framework, guard)
  const at = (level: string) => (facts: object, message: string) =>
    log(`${level} ${message} ${JSON.stringify(facts)}`)
  const logger = { debug: () => {}, info: () => {}, warn: at('warn'), error: at('error') }
  const handler = pkg.withPersistence(app, store, { logger, ...identity.options })
  const served = await serve(kind, handler, guard)
  const over2 = face === 'HTTP/2' ? await serveHttp2(kind, handler) : undefined
  const close = async () => {
    over2?.wire.close()
    await handler.close({ deadline: 0 })
    await Promise.all([served.close(), over2?.close()])
    await behind?.close()
  }
  const node = http1Node(served, close)
  if (!face) return node
  const wire = over2?.wire ?? node
  // HTTP/2 has no absolute form, and what `Request` makes of one is not up to us.
  const ask: Node['ask'] = async (plan, names) =>
    plan.target.startsWith('/') ? wire.ask(plan, names) : undefined
  return { ...node, ask }
}

type Handler = ReturnType<Package['withPersistence']>

function serve({ framework, face }: Kind, handler: Handler, guard: Guard): Promise<Listening> {
  if (face === 'fetch') return listen(getRequestListener((request) => handler.fetch(request)))
  if (framework === 'factory') return listen(behindMiddleware(handler, guard))
  return listening(handler.listen(0, '127.0.0.1'))
}

/** By a server of its own; an app of Fastify where another one mounts it, which speaks HTTP/2. */
async function serveHttp2({ framework }: Kind, handler: Handler) {
  const mount = framework === 'fastify' ? fastify({ http2: true }) : undefined
  mount?.all('/*', (request, reply) => handler(request, reply))
  await mount?.ready()
  const server = http2.createServer((mount?.routing.bind(mount) ?? handler) as never)
  const { port } = await listening(server.listen(0, '127.0.0.1') as never)
  const wire = new Http2Wire(port)
  return { wire, close: () => new Promise((resolve) => server.close(resolve)) }
}

function behindMiddleware(
  handler: Handler,
  { users, header = 'authorization', alias }: Guard,
): RequestListener {
  const app = express()
  app.use(express.json({ limit: '4mb' }))
  app.all(['/mcp', alias!], (req, res, next) => {
    const user = users.get(String(req.headers[header]).replace(/^Bearer /, ''))
    if (user === undefined) return void res.sendStatus(401)
    const auth = { token: 'secret', clientId: 'one-client-for-all', scopes: [], extra: { sub: user } }
    handler(Object.assign(req, { auth }), res, next)
  })
  return app
}

function http1Node({ port, origin }: Listening, close: () => Promise<void>): Node {
  const wire = new Wire(port)
  return {
    wire,
    url: `${origin}/mcp`,
    ask: (plan, names) => {
      const { bytes, odd } = render(plan, names)
      return wire.ask(bytes, { method: plan.method, odd })
    },
    close: async () => {
      wire.close()
      await close()
    },
  }
}

function appOf(framework: Framework, guard: Guard): WrappableApp {
  if (framework === 'factory') return () => buildServerV1(guard.journal, guard.tools)
  return guardedApp(framework === 'url' ? 'express' : framework, guard).app
}

function listenerOf(framework: Framework, guard: Guard): Promise<RequestListener> {
  return nodeListener(appOf(framework === 'factory' ? 'express' : framework, guard))
}
