import { once } from 'node:events'
import type { RequestListener, ServerResponse } from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { hello } from '../support/apps/frameworks/routes.ts'
import { wrap } from '../support/apps/front.ts'
import { type Message, RawClient } from '../support/clients/raw-client.ts'
import { makeIdentities } from '../support/services/authority.ts'
import { within } from '../support/wait.ts'

const FRONTS = ['express5', 'express4', 'fastify', 'koa', 'node', 'hono', 'factory'] as const

type Server = http2.Http2Server | http2.Http2SecureServer

async function connected(server: Server, options: http2.SecureClientSessionOptions = {}) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const scheme = 'ca' in options ? 'https' : 'http'
  const session = http2.connect(`${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`, options)
  onTestFinished(() => {
    session.destroy()
    server.close()
  })
  return session
}

interface Answer {
  readonly headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader
  readonly body: string
}

/** One request; `enough` ends the reading of what does not end. */
async function ask(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: string,
  enough: (text: string) => boolean = () => false,
): Promise<Answer> {
  const stream = session.request({ ':path': '/mcp', ...headers })
  if (body !== undefined) stream.end(body)
  const answered = once(stream, 'response') as Promise<[Answer['headers']]>
  const [response] = await within('the head of an answer', answered)
  let text = ''
  const over = new Promise<void>((resolve) => {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (enough(text)) resolve()
    })
    stream.on('end', resolve)
  })
  await within('the body of an answer', over)
  stream.close()
  return { headers: response, body: text }
}

const TYPES = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }

/** What every client does first, and the rest of its life. */
async function liveThrough(session: http2.ClientHttp2Session): Promise<void> {
  const client = new RawClient('')
  const post = (message: Message, headers: http2.OutgoingHttpHeaders = {}) =>
    ask(session, { ':method': 'POST', ...TYPES, ...headers }, JSON.stringify(message))
  const opened = await post(client.initialize())
  expect(opened.headers[':status']).toBe(200)
  const id = String(opened.headers['mcp-session-id'])
  const own = { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }
  const told = await post({ jsonrpc: '2.0', method: 'notifications/initialized' }, own)
  expect(told.headers[':status']).toBe(202)
  const called = await post(client.toolCall('echo', { text: 'over two' }), own)
  expect(called.body).toContain('over two')
  const standalone = ask(session, { ...own, accept: 'text/event-stream' }, undefined, (text) =>
    text.includes('two:3'),
  )
  await post(client.toolCall('burst', { tag: 'two', count: 3, via: 'standalone' }), own)
  expect((await standalone).headers[':status']).toBe(200)
  const resumed = await ask(session, {
    ...own,
    accept: 'text/event-stream',
    'last-event-id': /^id: (\S+)/m.exec(called.body)![1]!,
  })
  expect(resumed.body).toContain('over two')
  expect(
    (await post(client.request('tools/list'), { ...own, 'mcp-session-id': 'x' })).headers[':status'],
  ).toBe(404)
  const refused = await ask(session, { ':path': '/MCP%00/../x', ':method': 'POST', ...own }, '{}')
  // A factory is mounted everywhere; its transport refuses.
  expect([404, 406]).toContain(refused.headers[':status'])
  expect((await ask(session, { ':method': 'DELETE', ...own })).headers[':status']).toBe(200)
  expect((await post(client.request('tools/list'), own)).headers[':status']).toBe(404)
}

const { ca, server } = makeIdentities()

describe.each(FRONTS)('%s', (front) => {
  it('is served over HTTP/2 in the clear, its other routes included', async () => {
    const handler = (await wrap(front)) as unknown as RequestListener
    const session = await connected(http2.createServer(handler as never))
    await liveThrough(session)
    if (front === 'factory') return
    const other = await ask(session, { ':path': '/hello' })
    expect(other.body).toBe(hello)
    expect(other.headers[':status']).toBe(200)
  })

  it('is served over HTTP/2 with TLS', async () => {
    const secure = http2.createSecureServer({ ...server, allowHTTP1: true }, (await wrap(front)) as never)
    await liveThrough(await connected(secure, { ca }))
  })
})

it.each(['express5', 'hono', 'factory'] as const)(
  '%s is served where Fastify with http2 mounts it',
  async (front) => {
    const handler = await wrap(front)
    const app = fastify({ http2: true })
    app.all('/mcp', (request, reply) => handler(request, reply))
    app.all('/*', (request, reply) => handler(request, reply))
    await app.ready()
    onTestFinished(() => app.close())
    const session = await connected(app.server as unknown as Server)
    await liveThrough(session)
  },
)

it('an answer of the app that speaks of its connection does not break the stream', async () => {
  const handler = withPersistence((_req: never, res: never) => {
    const answer = res as ServerResponse
    answer.writeHead(200, {
      connection: 'keep-alive',
      'keep-alive': 'timeout=5',
      'transfer-encoding': 'chunked',
    })
    answer.end('said')
  }, 'memory:')
  onTestFinished(() => handler.close({ deadline: 0 }))
  const session = await connected(http2.createServer(handler as never))
  const answer = await ask(session, { ':method': 'POST', ...TYPES }, '{}')
  expect(answer.body).toBe('said')
  expect(answer.headers).not.toHaveProperty('connection')
})
