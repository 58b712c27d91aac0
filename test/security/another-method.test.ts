import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { FRONTS, serveFront } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { askRaw } from '../support/clients/wire.ts'

it.each(FRONTS)('TRACE is no error of the server, with a session or without (%s)', async (front) => {
  const { url, origin } = await serveFront(front)
  const client = await RawClient.open(url)
  for (const headers of [[], [`Mcp-Session-Id: ${client.session}`]]) {
    const { status } = await askRaw(origin, ['TRACE /mcp HTTP/1.1', 'Host: localhost', ...headers])
    expect(status, front).toBeGreaterThanOrEqual(400)
    expect(status, front).toBeLessThan(500)
  }
  expect(await client.tool('counter')).toBe('1')
})

it.each(FRONTS)('a DELETE may say that it has a body, and have one (%s)', async (front) => {
  const { url, origin } = await serveFront(front)
  const client = await RawClient.open(url)
  const head = ['DELETE /mcp HTTP/1.1', 'Host: localhost', `Mcp-Session-Id: ${client.session}`]
  const { status } = await askRaw(origin, [...head, 'Content-Type: application/json'], '{"reason":"done"}')
  expect(status).toBe(200)
})

// HTTP/1 refuses them itself; `Request`, which apps behind `fetch` get, takes the one for the other.
it.each(FRONTS)('a method in small letters opens no session and ends none (%s)', async (front) => {
  const { url, handler } = await serveFront(front)
  const client = await RawClient.open(url)
  const server = http2.createServer(handler as never).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const connection = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  onTestFinished(() => {
    connection.destroy()
    server.close()
  })
  const ask = async (headers: http2.OutgoingHttpHeaders, body: string) => {
    const stream = connection.request({ ':path': '/mcp', ...headers }).end(body)
    const [head] = await once(stream, 'response')
    stream.close()
    return head
  }
  const types = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
  const opened = await ask({ ':method': 'post', ...types }, JSON.stringify(client.initialize()))
  expect(opened[':status']).toBe(400)
  expect(opened).not.toHaveProperty('mcp-session-id')
  const ended = await ask({ ':method': 'delete', 'mcp-session-id': client.session }, '')
  expect(ended[':status']).toBe(400)
  expect(await client.tool('counter')).toBe('1')
})
