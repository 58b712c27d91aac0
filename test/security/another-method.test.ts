import { expect, it } from 'vitest'
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
