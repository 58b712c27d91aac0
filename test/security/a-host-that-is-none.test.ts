import { describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { hello } from '../support/apps/frameworks/routes.ts'
import { FRONTS, serveFront, wrap } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { askRaw } from '../support/clients/wire.ts'
import { serveUnwrapped } from '../support/serve.ts'

const BAD = [
  'localhost/admin?',
  'localhost/hello#',
  'a@b',
  'localhost:99999',
  '[::1',
  'a b',
  'a,b',
  'x\\hello',
]

const initialize = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '1' } },
})
const TYPES = ['Content-Type: application/json', 'Accept: application/json, text/event-stream']

describe.each(FRONTS)('%s', (front) => {
  it('a Host that would lead to another path, or to nowhere, is refused with 400', async () => {
    const { origin } = await serveFront(front)
    for (const host of BAD) {
      for (const path of ['/mcp', '/hello']) {
        const answer = await askRaw(origin, [`POST ${path} HTTP/1.1`, `Host: ${host}`, ...TYPES], initialize)
        expect(answer.status, `${host} ${path}`).toBe(400)
        expect(answer.body).not.toContain(hello)
      }
    }
  })
})

describe.each(['hono', 'url'] as const)('%s', (front) => {
  it('an empty one, and none at all from HTTP/1.0, are served', async () => {
    const { origin } = await serveFront(front)
    for (const head of [['POST /mcp HTTP/1.1', 'Host: '], ['POST /mcp HTTP/1.0']]) {
      const answer = await askRaw(origin, [...head, ...TYPES], initialize)
      expect(answer.status).toBe(200)
      expect(answer.body).toContain('protocolVersion')
      expect(answer.head).not.toMatch(/HTTP\/1.0.*chunked/is)
    }
  })
})

it.each(['express5', 'fastify', 'koa', 'node'] as const)(
  '%s: to what a Node app reads from the request nothing is added, so that it refuses what it refuses',
  async (front) => {
    const { origin } = await serveFront(front)
    const { origin: unwrapped, close } = await serveUnwrapped(appShape(front))
    onTestFinished(close)
    for (const head of [['POST /mcp HTTP/1.1', 'Host: '], ['POST /mcp HTTP/1.0']]) {
      const { status } = await askRaw(unwrapped, [...head, ...TYPES], initialize)
      expect((await askRaw(origin, [...head, ...TYPES], initialize)).status).toBe(status)
    }
  },
)

it('the fetch form refuses a path that names another host', async () => {
  const handler = await wrap('hono')
  const answer = await handler.fetch(new Request('http://localhost//evil.example/mcp'))
  expect(answer.status).toBe(400)
  const host = await handler.fetch(new Request('http://localhost/hello', { headers: { host: 'a/b' } }))
  expect(host.status).toBe(400)
})

it('serves the client that asks as it should', async () => {
  const { url } = await serveFront('hono')
  const client = await RawClient.open(url)
  expect(await client.tool('counter')).toBe('1')
})
