import { expect, it } from 'vitest'
import { FRONTS, serveFront, wrap } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { askRaw } from '../support/clients/wire.ts'

const NAMES = [
  'get',
  'has',
  'forEach',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'valueOf',
  'then',
]

it.each(FRONTS)('%s: a header may have any name', async (front) => {
  const { origin, url } = await serveFront(front)
  const client = await RawClient.open(url)
  const head = [
    'POST /mcp HTTP/1.1',
    'Host: localhost',
    `Mcp-Session-Id: ${client.session}`,
    'Accept: application/json, text/event-stream',
    'Content-Type: application/json',
    ...NAMES.map((name) => `${name}: x`),
  ]
  const answer = await askRaw(origin, head, JSON.stringify(client.toolCall('counter')))
  expect(answer.status).toBe(200)
  expect(await client.tool('counter')).toBe('2')
  const bare = ['GET /mcp HTTP/1.1', 'Host: localhost', ...NAMES.map((name) => `${name}: x`)]
  expect((await askRaw(origin, bare)).status).toBe(400)
})

it('a session may be asked for by any name', async () => {
  const { url } = await serveFront('express5')
  const client = new RawClient(url)
  for (const id of [...NAMES, 'a'.repeat(1024 * 14), '%00', 'a,b', '']) {
    client.session = id
    const response = await client.post(client.request('tools/list'))
    await response.text()
    expect(response.status, id).toBe(404)
  }
})

it('the fetch form too', async () => {
  const handler = await wrap('factory')
  const headers = new Headers(NAMES.map((name) => [name, 'x']))
  const response = await handler.fetch(new Request('http://localhost/mcp', { headers }))
  expect(response.status).toBe(400)
})
