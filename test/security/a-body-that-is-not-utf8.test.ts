import express, { type RequestHandler } from 'express'
import { expect, it, onTestFinished } from 'vitest'
import { FRONTS, serveFront, wrap } from '../support/apps/front.ts'
import { type Message, RawClient, RawStream } from '../support/clients/raw-client.ts'
import { listen } from '../support/net/listen.ts'
import { serveApp } from './support.ts'

const utf16 = (text: string) => Buffer.from(text, 'utf16le')
const utf32 = (text: string) => Buffer.from([...text].flatMap((sign) => [sign.charCodeAt(0), 0, 0, 0]))
/** One message to whoever goes by the charset, and another one to whoever does not. */
const twoFaced = (text: string) =>
  Buffer.from(`{"said":"+ACI-,${text.slice(1).replaceAll('"', '+ACI-')},+ACI-x+ACI-:+ACI-"}`)

const FORMS: [type: string, encode: (text: string) => Buffer][] = [
  ['application/json; charset=utf-16le', utf16],
  ['application/json; charset="UTF-16LE"', utf16],
  ['application/json; charset="utf-1\\6le"', utf16],
  ['application/json; charset=utf-8; charset=utf-16le', utf16],
  ['application/json; charset=utf-32', utf32],
  ['application/json; charset=utf-7', twoFaced],
  ['application/json', utf16],
  ['application/json', utf32],
]

const bytes = (message: Message) => JSON.stringify(message)

function send(url: string, body: Buffer, type: string, session?: string): Promise<Response> {
  const headers = {
    'content-type': type,
    accept: 'application/json, text/event-stream',
    ...(session !== undefined && { 'mcp-session-id': session }),
  }
  return fetch(url, { method: 'POST', headers, body: new Uint8Array(body) })
}

it.each(FRONTS)(
  '%s: what the app might read in another way than we is refused, and it is not asked',
  async (front) => {
    const { url } = await serveFront(front)
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    for (const [type, encode] of FORMS) {
      const opened = await send(url, encode(bytes(client.initialize())), type)
      expect([opened.status, await opened.text()], type).toEqual([415, expect.stringContaining('UTF-8')])
      expect(opened.headers.get('mcp-session-id')).toBe(null)
      const called = await send(url, encode(bytes(client.toolCall('counter'))), type, client.session)
      expect([called.status, await called.text()], type).toEqual([415, expect.stringContaining('UTF-8')])
    }
    expect(await client.tool('counter'), 'none of them was counted').toBe('1')
  },
)

it.each(FRONTS)('%s: a byte order mark makes no difference', async (front) => {
  const { url, store } = await serveFront(front)
  const client = new RawClient(url)
  onTestFinished(() => client.close())
  const marked = (message: Message) => Buffer.from(`\ufeff${bytes(message)}`)
  const opened = await send(url, marked(client.initialize()), 'application/json')
  await opened.text()
  expect(opened.status).toBe(200)
  client.session = opened.headers.get('mcp-session-id') ?? undefined
  expect(await store.sessions.get(client.session!)).toBeDefined()
  const call = await send(
    url,
    marked(client.toolCall('echo', { text: 'marked' })),
    'application/json',
    client.session,
  )
  const stream = new RawStream(call, new AbortController())
  await stream.over()
  // As of any call: it can be resumed.
  const resumed = await client.listen(stream.events[0]!.id)
  await resumed.over()
  expect(JSON.stringify(resumed.messages)).toContain('marked')
})

it.each(['utf-8', 'UTF8', '"utf-8"', 'us-ascii', 'iso-8859-1'])(
  'a charset of %s is as good as none',
  async (charset) => {
    const { url } = await serveFront('hono')
    const body = Buffer.from(bytes(new RawClient(url).initialize()))
    const opened = await send(url, body, `application/json; charset=${charset}`)
    await opened.text()
    expect(opened.status).toBe(200)
  },
)

it('a server behind us that finds UTF-16 out by itself is not asked', async () => {
  let asked = 0
  const upstream = await listen((req, res) => {
    if (req.method === 'POST') asked += 1
    res.writeHead(200, { 'mcp-session-id': 'theirs' }).end()
  })
  onTestFinished(upstream.close)
  const { url } = await serveApp({ url: upstream.origin }, 'memory:')
  const refused = await send(url, utf16(bytes(new RawClient(url).initialize())), 'application/json')
  await refused.text()
  expect([refused.status, asked]).toEqual([415, 0])
})

it('nor is an app whose body somebody has read in front of us, as bytes', async () => {
  const handler = await wrap('express5')
  const app = express()
  app.use(express.raw({ type: '*/*' }))
  app.use(handler as RequestHandler)
  const { origin, close } = await listen(app)
  onTestFinished(close)
  const refused = await send(`${origin}/mcp`, utf16(bytes(new RawClient('').initialize())), FORMS[0]![0])
  await refused.text()
  expect(refused.status).toBe(415)
})

it('the fetch form refuses alike', async () => {
  const handler = await wrap('hono')
  for (const [type, encode] of FORMS) {
    const headers = { 'content-type': type, accept: 'application/json, text/event-stream' }
    const body = new Uint8Array(encode(bytes(new RawClient('').initialize())))
    const refused = await handler.fetch(
      new Request('http://localhost/mcp', { method: 'POST', headers, body }),
    )
    expect(refused.status, type).toBe(415)
  }
})
