import type { IncomingMessage, ServerResponse } from 'node:http'
import express, { type ErrorRequestHandler, type RequestHandler } from 'express'
import express4 from 'express4'
import fastify from 'fastify'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import Koa from 'koa'
import { describe, expect, it, onTestFinished } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { keptLogger, wrap } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { listen } from '../support/net/listen.ts'
import { within } from '../support/wait.ts'

async function serve(listener: (req: IncomingMessage, res: ServerResponse) => unknown): Promise<string> {
  const { origin, close } = await listen(listener)
  onTestFinished(close)
  return origin
}

const page = 'https://page.example'
const sent = { origin: page }

/** What a page needs to see on every answer; the cookie is another middleware's. */
async function expectReadable(url: string): Promise<void> {
  const client = await RawClient.open(url, { headers: sent })
  onTestFinished(() => client.close())
  const stream = await client.stream(client.toolCall('echo', { text: 'x' }))
  await stream.over()
  const standalone = await client.listen()
  const resumed = await client.listen(stream.events[0]!.id)
  const lost = client.clone()
  lost.session = 'unknown'
  const unknown = await lost.post(lost.request('tools/list'))
  await unknown.text()
  expect(unknown.status).toBe(404)
  for (const { headers } of [stream.response, standalone.response, resumed.response, unknown]) {
    expect(headers.get('access-control-allow-origin')).toBe(page)
    expect(headers.get('vary')).toContain('Origin')
    expect(headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  }
}

/** The middleware that comes first, in the words of each framework. */
const COOKIES = ['a=1', 'b=2']

describe.each(['express5', 'hono', 'factory'] as const)('%s keeps what is set in front of it', (front) => {
  it('by Fastify hooks', async () => {
    const handler = await wrap(front)
    const app = fastify()
    app.addHook('onRequest', async (_request, reply) => {
      reply.header('access-control-allow-origin', page).header('vary', 'Origin').header('set-cookie', COOKIES)
    })
    app.all('/mcp', (request, reply) => handler(request, reply))
    await app.ready()
    await expectReadable(`${await serve((req, res) => app.routing(req, res))}/mcp`)
  })

  it('by Koa middleware', async () => {
    const handler = await wrap(front)
    const app = new Koa()
    app.use(async (context, next) => {
      context.set('access-control-allow-origin', page)
      context.vary('Origin')
      context.set('set-cookie', COOKIES)
      await next()
    })
    app.use((context, next) => (context.path === '/mcp' ? handler(context) : next()) as never)
    await expectReadable(`${await serve(app.callback())}/mcp`)
  })

  it('by Express middleware', async () => {
    const handler = await wrap(front)
    const app = express()
    app.use((_req, res, next) => {
      res.set('access-control-allow-origin', page).vary('Origin').set('set-cookie', COOKIES)
      next()
    })
    app.all('/mcp', handler as RequestHandler)
    await expectReadable(`${await serve(app)}/mcp`)
  })

  it('by Hono middleware', async () => {
    const handler = await wrap(front)
    const app = new Hono()
    app.use(cors({ origin: page }), async (context, next) => {
      await next()
      for (const cookie of COOKIES) context.res.headers.append('set-cookie', cookie)
    })
    app.all('/mcp', (context) => handler.fetch(context.req.raw))
    const { getRequestListener } = await import('@hono/node-server')
    await expectReadable(`${await serve(getRequestListener(app.fetch))}/mcp`)
  })
})

describe('a wrapped app under a prefix', () => {
  async function expectPersistent(url: string, handler: Awaited<ReturnType<typeof wrap>>): Promise<void> {
    const client = await RawClient.open(url)
    expect(await client.tool('counter')).toBe('1')
    expect(await handler.store.sessions.get(client.session!)).toBeDefined()
    const stream = await client.stream(client.toolCall('echo', { text: 'kept' }))
    await stream.over()
    expect(stream.lastEventId).toBeDefined()
  }

  it.each([
    ['/api', '/mcp', '/api/mcp'],
    ['/api', '/api/mcp', '/api/mcp'],
    ['/mcp', '/mcp', '/mcp'],
    ['/', '/mcp', '/mcp'],
  ])('used at %s with path %s is persistent at %s', async (prefix, path, served) => {
    const handler = await wrap('express5', { options: { path } })
    const app = express()
    app.use(prefix, handler as RequestHandler)
    await expectPersistent(`${await serve(app)}${served}`, handler)
  })

  it('of Hono, whose mount takes the prefix away', async () => {
    const handler = await wrap('hono')
    const app = new Hono().mount('/api', (request) => handler.fetch(request))
    const { getRequestListener } = await import('@hono/node-server')
    await expectPersistent(`${await serve(getRequestListener(app.fetch))}/api/mcp`, handler)
  })

  it('where the prefix stays, and the endpoint is not where the client is: the log says so, once', async () => {
    const { lines, logger } = keptLogger()
    const handler = await wrap('express5', { options: { logger } })
    const app = fastify()
    app.all('/api/mcp', (request, reply) => handler(request, reply))
    await app.ready()
    const origin = await serve((req, res) => app.routing(req, res))
    for (let i = 0; i < 2; i += 1) {
      const client = new RawClient(`${origin}/api/mcp`)
      expect((await client.post(client.initialize())).status).toBe(404)
    }
    expect(lines.filter(({ message }) => message.includes('not the endpoint'))).toMatchObject([
      { level: 'warn', facts: { path: '/api/mcp', endpoint: '/mcp' } },
    ])
  })
})

describe.each([
  ['Express 5', express],
  ['Express 4', express4 as unknown as typeof express],
])('a wrapped app of %s in front of other routes', (_, make) => {
  it('leaves to them what it does not know, and errors to whom they belong', async () => {
    const app = make()
    app.get('/inner', (_req, res) => void res.send('of the app'))
    app.get('/fails', (_req, _res, next) => next(new Error('on purpose')))
    const handler = withPersistence(app, 'memory:')
    onTestFinished(() => handler.close({ deadline: 0 }))
    const outer = make()
    outer.use(handler as RequestHandler)
    outer.get('/health', (req, res) => void res.send(`behind it, ${req.app === outer}`))
    outer.use(
      ((error: Error, _req, res, _next) => void res.send(`caught ${error.message}`)) as ErrorRequestHandler,
    )
    const origin = await serve(outer)
    const said = async (path: string) => (await fetch(origin + path)).text()
    expect(await said('/inner')).toBe('of the app')
    expect(await said('/health')).toBe('behind it, true')
    expect(await said('/fails')).toBe('caught on purpose')
  })
})

describe('headers that an app writes at once', () => {
  it.each([
    ['a flat list', ['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-One', 'x']],
    ['a list in a list', ['Set-Cookie', ['a=1', 'b=2'], 'X-One', 'x']],
    [
      'pairs',
      [
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
        ['X-One', 'x'],
      ],
    ],
    ['an object', { 'Set-Cookie': ['a=1', 'b=2'], 'X-One': 'x' }],
  ])('%s', async (_, headers) => {
    const app = (_req: unknown, res: ServerResponse) => {
      res.writeHead(200, headers as never)
      res.end('said')
    }
    const handler = withPersistence(app as never, 'memory:')
    onTestFinished(() => handler.close({ deadline: 0 }))
    const unwrapped = await serve(app)
    const wrapped = await serve(handler)
    for (const origin of [unwrapped, wrapped]) {
      const response = await fetch(`${origin}/mcp`, { method: 'POST', body: '{}' })
      expect(await response.text()).toBe('said')
      expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
      expect(response.headers.get('x-one')).toBe('x')
    }
  })
})

describe('a body that the framework in front has read is there for another route of the app', () => {
  const form = '/form'
  const apps: Record<string, () => Parameters<typeof withPersistence>[0] | Promise<{ url: string }>> = {
    fastify: () => {
      const app = fastify()
      app.post(form, ({ body }) => body)
      return app
    },
    koa: () =>
      new Koa().use((context) => {
        context.body = context.req
      }),
    node: () => (req: IncomingMessage, res: ServerResponse) => void req.pipe(res),
    hono: () => new Hono().post(form, async (c) => c.json(await c.req.json())),
    express: () =>
      express()
        .use(express.json())
        .post(form, (req, res) => void res.json(req.body)),
    url: async () => ({ url: await serve((req, res) => void req.pipe(res)) }),
  }

  it.each(Object.keys(apps))('%s', async (name) => {
    const handler = withPersistence(await apps[name]!(), 'memory:')
    onTestFinished(() => handler.close({ deadline: 0 }))
    const app = fastify()
    app.all('/*', (request, reply) => handler(request, reply))
    await app.ready()
    const url = `${await serve((req, res) => app.routing(req, res))}${form}`
    const headers = { 'content-type': 'application/json' }
    const sent = fetch(url, { method: 'POST', headers, body: '{"said":"once"}' })
    expect(await (await within('an answer', sent)).json()).toEqual({ said: 'once' })
  })
})
