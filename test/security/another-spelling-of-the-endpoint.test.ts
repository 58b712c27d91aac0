import { describe, expect, it } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { principalOf, tokens } from '../support/apps/auth.ts'
import { FRONTS, frontsOfOneServer, serveFront } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { askRaw } from '../support/clients/wire.ts'

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
          for (const version of ['2025-11-25', '2026-07-28', 'zzz']) {
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

it('another node in front of the same server knows whose sessions these are', async () => {
  const store = new MemoryEventStore()
  const nodes = await frontsOfOneServer(2, { store, options: { principal } })
  const alice = await RawClient.open(nodes[0]!.url, { headers: { authorization: `Bearer ${tokens.alice}` } })
  const head = ['GET /hello HTTP/1.1', 'Host: localhost', `mcp-session-id: ${alice.session}`]
  expect((await askRaw(nodes[1]!.origin, head)).status).toBe(404)
})
