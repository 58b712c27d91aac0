import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import type { WrappableApp } from '../../../src/index.ts'
import type { Journal } from '../journal.ts'
import type { AuthInfo, NodeTransport, WebTransport } from './sdk-lines.ts'
import { openNodeSession, openWebSession } from './sdk-v1.ts'

export const guardedFrameworks = ['express', 'fastify', 'koa', 'hono'] as const
export type GuardedFramework = (typeof guardedFrameworks)[number]

export interface Guard {
  readonly journal: Journal
  /** Tokens that are good, and whose they are. A test may change it. */
  readonly users: Map<string, string>
  /** The header that carries the token. Default `authorization`, as a bearer token. */
  readonly header?: string
  /** What the app tells somebody who asks for a session of another user. Undefined: it does not look. */
  readonly stranger?: number
  /** Its middleware sets `req.auth`, as the SDK's does (Node apps). */
  readonly setsAuth?: boolean
  /** It has no route for DELETE. */
  readonly noDelete?: boolean
  /** Plain JSON answers. */
  readonly json?: boolean
  /** Of its servers. Default: all. */
  readonly tools?: readonly string[]
  /** A second route to the same sessions. */
  readonly alias?: string
}

export interface GuardedApp {
  readonly app: WrappableApp
  /** How many requests it has seen, its own pings included. */
  readonly seen: () => number
  /** Forgets its sessions, as after a sweep. */
  readonly sweep: () => void
}

/** An app that knows its users, as people write them: who asks for what is decided by the app and by nobody else. */
export function guardedApp(framework: GuardedFramework, guard: Guard): GuardedApp {
  return framework === 'hono' ? honoGuarded(guard) : nodeGuarded(framework, guard)
}

class Doorman<Transport> {
  readonly sessions = new Map<string, { user: string; transport: Transport }>()
  readonly #guard: Guard
  seen = 0

  constructor(guard: Guard) {
    this.#guard = guard
  }

  /** The session's transport, `open`, or a refusal. */
  decide(
    method: string,
    header: (name: string) => string | undefined,
  ): { user: string; transport?: Transport } | { status: number } {
    this.seen += 1
    const { users, header: name = 'authorization', stranger, noDelete } = this.#guard
    const user = users.get(header(name)?.replace(/^Bearer /, '') ?? '')
    if (user === undefined) return { status: 401 }
    if (method === 'DELETE' && noDelete) return { status: 404 }
    const id = header('mcp-session-id')
    if (id === undefined) return method === 'POST' ? { user } : { status: 400 }
    const session = this.sessions.get(id)
    if (!session) return { status: 404 }
    if (stranger !== undefined && session.user !== user) return { status: stranger }
    return { user, transport: session.transport }
  }

  options(user: string, transport: () => Transport) {
    const { journal, json = false, tools } = this.#guard
    return {
      journal,
      json,
      eventStore: false,
      generateId: randomUUID,
      tools,
      onOpen: (id: string) => void this.sessions.set(id, { user, transport: transport() }),
      onClose: (id: string) => void this.sessions.delete(id),
    }
  }
}

function routesOf({ alias }: Guard): string[] {
  return alias === undefined ? ['/mcp'] : ['/mcp', alias]
}

function refusal(status: number): string {
  return JSON.stringify({
    jsonrpc: '2.0',
    error: { code: -32000, message: `The app says ${status}` },
    id: null,
  })
}

function authOf(user: string): AuthInfo {
  return { token: 'secret', clientId: 'one-client-for-all', scopes: [], extra: { sub: user } }
}

function nodeGuarded(framework: 'express' | 'fastify' | 'koa', guard: Guard): GuardedApp {
  const doorman = new Doorman<NodeTransport>(guard)
  const handle = async (
    req: IncomingMessage & { auth?: AuthInfo },
    res: ServerResponse,
    body?: unknown,
  ): Promise<void> => {
    const decided = doorman.decide(req.method ?? 'GET', (name) => req.headers[name] as string | undefined)
    if ('status' in decided) {
      res.writeHead(decided.status, { 'content-type': 'application/json' }).end(refusal(decided.status))
      return
    }
    if (guard.setsAuth) req.auth = authOf(decided.user)
    let { transport } = decided
    transport ??= await openNodeSession(doorman.options(decided.user, () => transport!))
    await transport.handleRequest(req, res, body)
  }
  const routes = routesOf(guard)
  const facts = { seen: () => doorman.seen, sweep: () => doorman.sessions.clear() }
  if (framework === 'fastify') {
    const app = fastify()
    for (const route of routes) {
      app.all(route, async (request, reply) => {
        reply.hijack()
        await handle(request.raw, reply.raw, request.body)
      })
    }
    return { app: app as unknown as WrappableApp, ...facts }
  }
  if (framework === 'koa') {
    const app = new Koa()
    app.use(async (ctx) => {
      ctx.respond = false
      await handle(ctx.req, ctx.res)
    })
    return { app: app as unknown as WrappableApp, ...facts }
  }
  const app = express()
  app.use(express.json({ limit: '4mb' }))
  app.all(routes, (req, res, next) => {
    handle(req, res, req.body).catch(next)
  })
  return { app: app as unknown as WrappableApp, ...facts }
}

function honoGuarded(guard: Guard): GuardedApp {
  const doorman = new Doorman<WebTransport>(guard)
  const app = new Hono()
  app.on('ALL', routesOf(guard), async (c) => {
    const decided = doorman.decide(c.req.method, (name) => c.req.header(name))
    if ('status' in decided) {
      return new Response(refusal(decided.status), {
        status: decided.status,
        headers: { 'content-type': 'application/json' },
      })
    }
    let { transport } = decided
    transport ??= await openWebSession(doorman.options(decided.user, () => transport!))
    return transport.handleRequest(c.req.raw)
  })
  return {
    app: app as unknown as WrappableApp,
    seen: () => doorman.seen,
    sweep: () => doorman.sessions.clear(),
  }
}

/** Such an app as its author serves it. */
export async function nodeListener(app: WrappableApp): Promise<RequestListener> {
  if (typeof app === 'function') return app as RequestListener
  if ('fetch' in app) return getRequestListener((request, env) => app.fetch(request, env))
  if ('callback' in app) return app.callback()
  const { ready, routing } = app as unknown as { ready(): Promise<void>; routing: RequestListener }
  await ready.call(app)
  return (req, res) => routing.call(app, req, res)
}

/** A JSON Web Token as it looks, signed by nobody: whether it is good is for the app's list of tokens to say. */
export function jwt(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'none' })}.${part(claims)}.c2lnbmVk`
}
