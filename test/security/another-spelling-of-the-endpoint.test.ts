import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, withPersistence } from '../../src/index.ts'
import { principalOf, tokens } from '../support/apps/auth.ts'
import { express5App } from '../support/apps/frameworks/express5.ts'
import { FRONTS, frontsOfOneServer, serveFront } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { askRaw } from '../support/clients/wire.ts'
import { memoryJournal } from '../support/journal.ts'
import { listening } from '../support/net/listen.ts'

const principal = ({ headers }: { headers: Headers }) => principalOf(headers.get('authorization'))

const SPELLINGS = [
  '/mcp',
  '/mcp/',
  '/MCP',
  '/mcP',
  '/MCP/',
  '/%6dcp',
  '/m%63p',
  '/%4DCP',
  '/%256dcp',
  '/./mcp',
  '/x/../mcp',
  '/x/%2e%2e/mcp',
  '/.%2fmcp',
  '/mcp;v=1',
  '/mcp%00',
  '/mcp%20',
  '/x\\..\\mcp',
  '/mcp?x=1',
  '/mcp#x',
  '//mcp',
  '/x//mcp',
  '/hello',
  '/%zz/../mcp',
  'http://localhost/mcp',
  'http://localhost/MCP',
  'http://localhost//mcp',
  'HTTP://localhost/%6dcp',
]

describe.each(FRONTS)(
  'a stranger who knows a session id and another spelling of the endpoint (%s)',
  (front) => {
    it('is served at none of them, by no method and no protocol version', async () => {
      const { url, origin } = await serveFront(front, { options: { principal } })
      const alice = await RawClient.open(url, { headers: { authorization: `Bearer ${tokens.alice}` } })
      expect(await alice.tool('counter')).toBe('1')
      const call = JSON.stringify(alice.toolCall('counter'))
      const ids = [alice.session!, `${alice.session}, x`, `x,${alice.session}`]
      for (const target of SPELLINGS) {
        for (const method of ['POST', 'GET', 'DELETE', 'PUT']) {
          for (const version of method === 'POST' ? ['2025-11-25', '2026-07-28', 'zzz'] : ['2025-11-25']) {
            const id = ids[(target.length + method.length) % ids.length]!
            const head = [
              `${method} ${target} HTTP/1.1`,
              'Host: localhost',
              `Authorization: Bearer ${tokens.bob}`,
              `Mcp-Session-Id: ${version === 'zzz' ? alice.session : id}`,
              `Mcp-Protocol-Version: ${version}`,
              'Accept: application/json, text/event-stream',
              'Content-Type: application/json',
            ]
            const answer = await askRaw(origin, head, method === 'POST' || method === 'PUT' ? call : '')
            const what = `${method} ${target} ${version}: ${answer.head} ${answer.body}`
            expect([400, 404, 405, 406], what).toContain(answer.status)
            expect(answer.body, what).not.toContain('"result"')
          }
        }
      }
      // Neither was the counter moved, nor the session ended.
      expect(await alice.tool('counter')).toBe('2')
    }, 60_000)

    it('hears 404 from us wherever the path is not the endpoint, and the app is not asked', async () => {
      const { url, origin } = await serveFront(front)
      const alice = await RawClient.open(url)
      for (const method of ['GET', 'POST', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS']) {
        const mine = [`${method} /hello HTTP/1.1`, 'Host: localhost', `mcp-session-id: ${alice.session}`]
        expect((await askRaw(origin, mine)).status, method).toBe(404)
      }
      const other = ['GET /hello HTTP/1.1', 'Host: localhost', 'mcp-session-id: one-that-nobody-knows']
      expect((await askRaw(origin, other)).status).toBe(200)
      const lifetime = ['GET /hello HTTP/1.1', 'Host: localhost', `mcp-session-id: ${alice.session}`]
      await (await alice.delete()).text()
      if (front !== 'url') expect((await askRaw(origin, lifetime)).status).toBe(404)
    })
  },
)

describe.each(['express5', 'express4'] as const)('%s, whose router is generous', (front) => {
  it('a session opened at /MCP is kept like any other', async () => {
    const { origin, store } = await serveFront(front)
    const client = await RawClient.open(`${origin}/MCP`)
    expect(await store.sessions.get(client.session!)).toBeDefined()
    const stream = await client.stream(client.toolCall('echo', { text: 'kept' }))
    await stream.over()
    const resumed = await client.listen(stream.events[0]!.id)
    await resumed.over()
    expect(JSON.stringify(resumed.messages)).toContain('kept')
  })

  it('an absolute target is its path', async () => {
    const { origin, url } = await serveFront(front)
    const client = await RawClient.open(url)
    const head = [
      'POST http://localhost/mcp HTTP/1.1',
      'Host: localhost',
      `Mcp-Session-Id: ${client.session}`,
      'Accept: application/json, text/event-stream',
      'Content-Type: application/json',
    ]
    const answer = await askRaw(origin, head, JSON.stringify(client.request('tools/list')))
    expect(answer.status).toBe(200)
  })
})

it('a page that answers every other path does not vouch for a stranger at another spelling', async () => {
  const app = express5App('v1', { journal: memoryJournal(), auth: true })
  // As those who serve a single-page application write it.
  app.use((_req, res) => void res.status(200).json({ jsonrpc: '2.0', id: 'ping', result: {} }))
  const handler = withPersistence(app, 'memory:')
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await close()
  })
  const alice = await RawClient.open(`${origin}/mcp`, {
    headers: { authorization: `Bearer ${tokens.alice}` },
  })
  const stream = await alice.stream(alice.toolCall('echo', { text: 'for alice' }))
  await stream.over()
  for (const path of ['/mcp%20', '/%6dcp', '/mcp;x', '/x/../mcp', '/MCP', '/mcp/']) {
    for (const method of ['GET', 'DELETE', 'POST']) {
      const head = [
        `${method} ${path} HTTP/1.1`,
        'Host: localhost',
        `Mcp-Session-Id: ${alice.session}`,
        ...(method === 'GET' ? [`Last-Event-ID: ${stream.events[0]!.id}`] : []),
        'Accept: application/json, text/event-stream',
        'Content-Type: application/json',
      ]
      const answer = await askRaw(
        origin,
        head,
        method === 'POST' ? JSON.stringify(alice.toolCall('counter')) : '',
      )
      expect([401, 404], `${method} ${path}: ${answer.head}`).toContain(answer.status)
      expect(answer.body).not.toContain('for alice')
    }
  }
  expect(await alice.tool('counter')).toBe('1')
})

it.each([
  ['fastify', '/MCP', 404],
  ['fastify', '/%6dcp', 200],
  ['hono', '/MCP', 404],
  ['hono', '/x/../%6dcp', 200],
  ['express5', '/mCP/', 200],
  ['express5', '/%6dcp', 404],
  // No path at all to Fastify, which says 400 as it does to a client without a session.
  ['fastify', '/x/%2e%2%2565/mcp', 404],
] as const)('%s takes %s for what it takes it for unwrapped: %i', async (front, path, status) => {
  const { origin, url } = await serveFront(front)
  const client = await RawClient.open(url)
  const head = [
    `POST ${path} HTTP/1.1`,
    'Host: localhost',
    `Mcp-Session-Id: ${client.session}`,
    'Accept: application/json, text/event-stream',
    'Content-Type: application/json',
  ]
  for (let i = 0; i < 2; i += 1) {
    const answer = await askRaw(origin, head, JSON.stringify(client.request('tools/list')))
    expect(answer.status).toBe(status)
  }
})

it('another node in front of the same server knows whose sessions these are', async () => {
  const store = new MemoryEventStore()
  const nodes = await frontsOfOneServer(2, { store, options: { principal } })
  const alice = await RawClient.open(nodes[0]!.url, { headers: { authorization: `Bearer ${tokens.alice}` } })
  const head = ['GET /hello HTTP/1.1', 'Host: localhost', `mcp-session-id: ${alice.session}`]
  expect((await askRaw(nodes[1]!.origin, head)).status).toBe(404)
})
