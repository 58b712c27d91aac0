import type { RequestListener } from 'node:http'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import fastify from 'fastify'
import { describe, expect, expectTypeOf, it, onTestFinished } from 'vitest'
import { type PersistOptions, withPersistence } from '../../src/index.ts'
import { keptLogger } from '../support/apps/front.ts'
import { buildServerV1 } from '../support/apps/server-v1.ts'
import { webSessions } from '../support/apps/sessions.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listen, listening } from '../support/net/listen.ts'

type App = Parameters<typeof withPersistence>[0]

/** A route as Next has it: no framework around, and an id of its own for each session. */
function route(): (request: Request) => Promise<Response> {
  const sessions = webSessions('v1', { journal: memoryJournal() })
  return (request) => sessions(request)
}

async function serve(app: App, options: PersistOptions = {}) {
  const handler = withPersistence(app, 'memory:', options)
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await close()
  })
  return { handler, origin }
}

async function expectPersistent(url: string, handler: ReturnType<typeof withPersistence>): Promise<void> {
  const client = await RawClient.open(url)
  onTestFinished(() => client.close())
  expect(await client.tool('counter')).toBe('1')
  expect(await client.tool('counter')).toBe('2')
  expect(await handler.store.sessions.get(client.session!)).toBeDefined()
  expect((await client.delete()).status).toBeLessThan(300)
  expect((await client.post(client.request('tools/list'))).status).toBe(404)
}

const factory = (journal = memoryJournal()) => buildServerV1(journal)

describe('a function of one parameter is what it returns', () => {
  it('a Response: a web handler', async () => {
    const { handler, origin } = await serve(route())
    await expectPersistent(`${origin}/mcp`, handler)
  })

  it('a server: a factory, which sees the request', async () => {
    const seen: { url: string; era: string; tenant: string | null; info: boolean }[] = []
    const { handler, origin } = await serve(
      (context: Request & { era: 'legacy'; requestInfo: Request; authInfo?: unknown }) => {
        const { era, requestInfo, headers } = context
        seen.push({
          era,
          url: context.url,
          tenant: headers.get('x-tenant'),
          info: requestInfo instanceof Request,
        })
        return factory()
      },
    )
    await expectPersistent(`${origin}/mcp`, handler)
    await RawClient.open(`${origin}/mcp?x=1`, { headers: { 'x-tenant': 'acme' } })
    expect(seen).toEqual([
      { era: 'legacy', url: `${origin}/mcp`, tenant: null, info: true },
      { era: 'legacy', url: `${origin}/mcp?x=1`, tenant: 'acme', info: true },
    ])
  })

  it('a factory of the v2 line has its context under the names that it knows', () => {
    withPersistence((context) => {
      expectTypeOf(context.era).toEqualTypeOf<'legacy'>()
      expectTypeOf(context.requestInfo).toEqualTypeOf<Request>()
      return factory()
    }, 'memory:')
  })

  it('authInfo comes to both', async () => {
    const authInfo = { token: 'hers', clientId: 'her', scopes: [] }
    const seen: unknown[] = []
    const handle = route()
    const ofWeb = await serve((request: Request) => {
      seen.push((request as { authInfo?: unknown }).authInfo)
      return handle(request)
    })
    const ofFactory = await serve(({ authInfo }: { authInfo?: unknown }) => {
      seen.push(authInfo)
      return factory()
    })
    for (const { handler } of [ofWeb, ofFactory]) {
      const client = new RawClient('http://localhost/mcp')
      const { headers } = new Request(client.url, {
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      })
      const request = new Request(client.url, {
        method: 'POST',
        headers,
        body: JSON.stringify(client.initialize()),
      })
      const response = await handler.fetch(request, { authInfo })
      expect(response.status).toBe(200)
      await response.text()
    }
    expect(seen.length).toBeGreaterThanOrEqual(2)
    for (const each of seen) expect(each).toEqual(authInfo)
  })

  it.each([
    ['a web handler', () => route()],
    ['a factory', () => (_context: object) => factory()],
  ])('%s whose first request opens no session', async (_, make) => {
    const { handler, origin } = await serve(make() as App)
    const first = new RawClient(`${origin}/mcp`)
    expect((await first.post(first.request('tools/list'))).status).toBe(400)
    expect((await first.get()).status).toBeGreaterThanOrEqual(400)
    await expectPersistent(`${origin}/mcp`, handler)
  })

  it('a factory that was called to find out closes what it made', async () => {
    let open = 0
    const { origin } = await serve((_context: object) => {
      open += 1
      const server = factory()
      server.server.onclose = () => {}
      const close = server.close.bind(server)
      server.close = async () => {
        open -= 1
        await close()
      }
      return server
    })
    expect((await fetch(`${origin}/health`)).status).toBe(404)
    expect((await fetch(`${origin}/mcp`)).status).toBe(400)
    expect(open).toBe(0)
  })

  it.each([
    [undefined, /returned nothing\. A web handler returns a Response/],
    ['text', /returned neither a Response nor a server/],
  ])('anything else (%s) is 500, and the log says what it should be', async (made, sentence) => {
    const { lines, logger } = keptLogger()
    const { origin } = await serve(((_request: Request) => made) as never, { logger })
    const client = new RawClient(`${origin}/mcp`)
    expect((await client.post(client.initialize())).status).toBe(500)
    expect(lines.map(({ facts }) => String(facts['error'])).join()).toMatch(sentence)
  })

  it('a web handler without parameters that is taken for a factory hears how to say so', async () => {
    const { lines, logger } = keptLogger()
    const { origin } = await serve((() => new Response('x')) as never, { logger })
    const client = new RawClient(`${origin}/mcp`)
    expect((await client.post(client.initialize())).status).toBe(500)
    expect(lines.map(({ facts }) => String(facts['error'])).join()).toContain('{ fetch: handler }')
  })
})

describe('a web handler has more paths than the endpoint', () => {
  const app = () => {
    const handle = route()
    return async (request: Request) => {
      const { pathname } = new URL(request.url)
      if (pathname === '/mcp') return handle(request)
      return new Response(`${request.method} ${pathname} ${await request.text()}`)
    }
  }

  it('when it listens itself, before and after its first session', async () => {
    const { handler, origin } = await serve(app())
    const said = async () => (await fetch(`${origin}/other`, { method: 'POST', body: 'x' })).text()
    expect(await said()).toBe('POST /other x')
    await expectPersistent(`${origin}/mcp`, handler)
    expect(await said()).toBe('POST /other x')
  })

  it('mounted, it is the endpoint wherever that is', async () => {
    const handle = route()
    const handler = withPersistence((request: Request) => handle(request), 'memory:')
    onTestFinished(() => handler.close({ deadline: 0 }))
    const outer = fastify()
    outer.all('/api/mcp', (request, reply) => handler(request, reply))
    await outer.ready()
    const { origin, close } = await listen(((req, res) => outer.routing(req, res)) as RequestListener)
    onTestFinished(close)
    await expectPersistent(`${origin}/api/mcp`, handler)
  })
})

describe('objects of frameworks that make their handler', () => {
  it('by getHandler(), as in mcp-use', async () => {
    let made = 0
    const server = {
      fetch: () => new Response(null, { status: 404 }),
      getHandler: async () => {
        made += 1
        return route()
      },
    }
    const { handler, origin } = await serve(server)
    await expectPersistent(`${origin}/mcp`, handler)
    expect(made).toBe(1)
  })

  it('by respond(), as a transport of tmcp', async () => {
    const handle = route()
    const transport = {
      respond: async (request: Request) => (request.url.endsWith('/mcp') ? handle(request) : null),
    }
    const { handler, origin } = await serve(transport)
    await expectPersistent(`${origin}/mcp`, handler)
    expect((await fetch(`${origin}/other`)).status).toBe(404)
  })

  it.each(['express', 'fastify'])('by init(), as a Nest app on %s', async (platform) => {
    const { appShape } = await import('../support/apps/app-shapes.ts')
    const { app } = await appShape(platform === 'express' ? 'express5' : 'fastify').build({
      journal: memoryJournal(),
    })
    let initialised = 0
    const nest = {
      init: async () => {
        initialised += 1
      },
      getHttpAdapter: () => ({ getInstance: () => app as object }),
      listen: () => {},
      close: () => {},
    }
    const { handler, origin } = await serve(nest)
    await expectPersistent(`${origin}/mcp`, handler)
    expect(initialised).toBe(1)
  })
})

it('an app that opens no sessions works as it did, and the log says so, once', async () => {
  const { lines, logger } = keptLogger()
  const stateless = async (request: Request) => {
    const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true })
    await factory().connect(transport as never)
    return transport.handleRequest(request)
  }
  const { origin } = await serve(stateless, { logger })
  const client = new RawClient(`${origin}/mcp`)
  for (let i = 0; i < 2; i += 1) {
    const response = await client.post(client.initialize())
    expect(response.status).toBe(200)
    expect(response.headers.get('mcp-session-id')).toBeNull()
    await response.text()
  }
  expect(lines.filter(({ message }) => message.includes('opens no sessions'))).toMatchObject([
    { level: 'warn', facts: { path: '/mcp' } },
  ])
})
