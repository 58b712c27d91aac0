import type { RequestListener } from 'node:http'
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js'
import express, { type RequestHandler } from 'express'
import express4 from 'express4'
import fastify from 'fastify'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import Koa from 'koa'
import { corsHeaders, verifier } from './auth.ts'
import type { AuthInfo, SdkLine } from './sdk-lines.ts'
import { type AppOptions, nodeSessions, webSessions } from './sessions.ts'

/** Every app also serves `GET /hello` and, streamed in two parts, `GET /parts`: routes that are none of ours. */
export const hello = 'hello from the app'
export const parts = ['first ', 'second']

export function expressApp(sdk: SdkLine, options: AppOptions, framework = express) {
  const app = framework()
  if (options.cors) {
    app.use((req, res, next) => {
      res.set(corsHeaders)
      if (req.method === 'OPTIONS') res.sendStatus(204)
      else next()
    })
  }
  app.get('/hello', (_req, res) => void res.send(hello))
  app.get('/parts', (_req, res) => {
    res.write(parts[0])
    setTimeout(() => res.end(parts[1]), 20)
  })
  app.use(framework.json({ limit: '4mb' }))
  const handlers: RequestHandler[] = options.auth ? [requireBearerAuth({ verifier })] : []
  const sessions = nodeSessions(sdk, options)
  app.all('/mcp', ...handlers, (req, res, next) => {
    sessions(req as typeof req & { auth?: AuthInfo }, res, req.body).catch(next)
  })
  return app
}

export function express4App(sdk: SdkLine, options: AppOptions) {
  return expressApp(sdk, options, express4)
}

export function fastifyApp(sdk: SdkLine, options: AppOptions) {
  const app = fastify()
  app.get('/hello', () => hello)
  app.get('/parts', (_request, reply) => {
    reply.hijack()
    reply.raw.write(parts[0])
    setTimeout(() => reply.raw.end(parts[1]), 20)
  })
  const sessions = nodeSessions(sdk, options)
  app.all('/mcp', async (request, reply) => {
    reply.hijack()
    await sessions(request.raw, reply.raw, request.body)
  })
  return app
}

export function koaApp(sdk: SdkLine, options: AppOptions) {
  const app = new Koa()
  const sessions = nodeSessions(sdk, options)
  app.use(async (ctx, next) => {
    if (ctx.path !== '/mcp') return next()
    ctx.respond = false
    await sessions(ctx.req, ctx.res)
  })
  app.use((ctx) => {
    if (ctx.path === '/hello') ctx.body = hello
    if (ctx.path !== '/parts') return
    ctx.respond = false
    ctx.res.statusCode = 200
    ctx.res.write(parts[0])
    setTimeout(() => ctx.res.end(parts[1]), 20)
  })
  return app
}

export function nodeApp(sdk: SdkLine, options: AppOptions): RequestListener {
  const sessions = nodeSessions(sdk, options)
  return (req, res) => {
    const { pathname } = new URL(req.url ?? '/', 'http://localhost')
    if (pathname === '/hello') return void res.end(hello)
    if (pathname === '/parts') {
      res.write(parts[0])
      return void setTimeout(() => res.end(parts[1]), 20)
    }
    if (pathname !== '/mcp') return void res.writeHead(404).end()
    sessions(req, res).catch((error: unknown) => res.destroy(error as Error))
  }
}

export function honoApp(sdk: SdkLine, options: AppOptions): Hono {
  const app = new Hono()
  if (options.cors) {
    app.use(
      cors({
        origin: corsHeaders['access-control-allow-origin'],
        exposeHeaders: corsHeaders['access-control-expose-headers'].split(', '),
        allowHeaders: corsHeaders['access-control-allow-headers'].split(', '),
      }),
    )
  }
  app.get('/hello', (c) => c.text(hello))
  app.get('/parts', (c) => {
    const encoder = new TextEncoder()
    return c.body(
      new ReadableStream({
        start(controller) {
          controller.enqueue(encoder.encode(parts[0]))
          setTimeout(() => {
            controller.enqueue(encoder.encode(parts[1]))
            controller.close()
          }, 20)
        },
      }),
    )
  })
  const sessions = webSessions(sdk, options)
  app.all('/mcp', async (c) => {
    if (!options.auth) return sessions(c.req.raw)
    const token = c.req.header('authorization')?.replace(/^Bearer /, '') ?? ''
    const authInfo = await verifier.verifyAccessToken(token).catch(() => undefined)
    if (!authInfo) {
      return c.json({ error: 'invalid_token' }, 401, { 'www-authenticate': 'Bearer error="invalid_token"' })
    }
    return sessions(c.req.raw, authInfo)
  })
  return app
}
