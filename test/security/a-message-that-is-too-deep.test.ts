import express, { type RequestHandler } from 'express'
import { expect, it, onTestFinished } from 'vitest'
import { FRONTS, serveFront, wrap } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { listen } from '../support/net/listen.ts'

const DEPTH = 20_000
const deep = `${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}`

/** JSON of such depth is easily read; written it cannot be. */
function bodies(client: RawClient): Record<string, string> {
  const hole = (message: object) => JSON.stringify(message).replace('"HOLE"', deep)
  const call = client.toolCall('echo', { text: 'x', more: 'HOLE' })
  return {
    initialize: hole({ ...client.initialize(), more: 'HOLE' }),
    'a call': hole(call),
    'a batch': hole([call, { jsonrpc: '2.0', id: 'g1.n7', result: {} }]),
    'a notification': hole({ jsonrpc: '2.0', method: 'notifications/x', params: { more: 'HOLE' } }),
    'an answer': hole({ jsonrpc: '2.0', id: 'g1.n0', result: { more: 'HOLE' } }),
    'no message': deep,
  }
}

it.each(FRONTS)('%s: no message of ours comes of one that could not be written again', async (front) => {
  const { url } = await serveFront(front)
  const client = await RawClient.open(url)
  onTestFinished(() => client.close())
  for (const [name, body] of Object.entries(bodies(client))) {
    const sender = name === 'initialize' ? new RawClient(url) : client
    const refused = await sender.post(body)
    expect([refused.status, await refused.text()], name).toEqual([400, expect.stringContaining('nested')])
  }
  expect(await client.tool('counter')).toBe('1')
})

it('what is merely deep, or has many brackets in a text, is served', async () => {
  const { url } = await serveFront('express5')
  const client = await RawClient.open(url)
  onTestFinished(() => client.close())
  const text = '["\\'.repeat(2000)
  expect(await client.tool('echo', { text })).toBe(text)
  const body = JSON.stringify(client.toolCall('echo', { text: 'x', more: 'HOLE' }))
  const served = await client.post(body.replace('"HOLE"', `${'['.repeat(900)}${']'.repeat(900)}`))
  await served.text()
  expect(served.status).toBe(200)
})

it('nor of one that somebody has read in front of us', async () => {
  for (const parser of [express.json({ limit: '4mb' }), express.text({ type: '*/*', limit: '4mb' })]) {
    const handler = await wrap('factory')
    const app = express()
    app.use(parser)
    app.all('/mcp', handler as RequestHandler)
    const { origin, close } = await listen(app)
    onTestFinished(close)
    const client = new RawClient(`${origin}/mcp`)
    const refused = await client.post(bodies(client)['initialize']!)
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining('nested')])
  }
})
