import { once } from 'node:events'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer as createHttps, request as requestHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import fastify from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { nodeApp } from '../support/apps/frameworks/node.ts'
import { FRONTS, serveFront } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { askRaw, onTheWire } from '../support/clients/wire.ts'
import { memoryJournal } from '../support/journal.ts'
import { listening } from '../support/net/listen.ts'
import { serveUnwrapped } from '../support/serve.ts'
import { makeIdentities } from '../support/services/authority.ts'
import { until, within } from '../support/wait.ts'

function post(client: RawClient, message: object, lines: readonly string[] = []): string {
  const body = JSON.stringify(message)
  const head = [
    'POST /mcp HTTP/1.1',
    'Host: localhost',
    'Content-Type: application/json',
    'Accept: application/json, text/event-stream',
    `Mcp-Session-Id: ${client.session}`,
    `Content-Length: ${body.length}`,
    ...lines,
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}

describe.each(FRONTS)('%s', (front) => {
  it('answers pipelined requests in their order', async () => {
    const { origin, url } = await serveFront(front)
    const client = await RawClient.open(url)
    const calls = [1, 2, 3].map((i) => post(client, client.toolCall('echo', { text: `pipelined-${i}` })))
    const text = await onTheWire(origin, calls.join(''), (received) => received.includes('pipelined-3'))
    expect([...text.matchAll(/pipelined-\d/g)].map(([found]) => found)).toEqual(
      [1, 2, 3].map((i) => `pipelined-${i}`),
    )
  })

  it('bids a client go on that asks first (Expect: 100-continue)', async () => {
    const { origin, url } = await serveFront(front)
    const client = await RawClient.open(url)
    const call = post(client, client.toolCall('counter'), ['Expect: 100-continue', 'Connection: close'])
    const text = await onTheWire(origin, call)
    expect(text).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200/)
    expect(await client.tool('counter')).toBe('2')
  })

  it('streams to a client of HTTP/1.0', async () => {
    const { origin, url } = await serveFront(front)
    const client = await RawClient.open(url)
    const call = post(client, client.toolCall('slow', { tag: 'old', steps: 3, ms: 5 })).replace(
      'HTTP/1.1',
      'HTTP/1.0',
    )
    const text = await onTheWire(origin, call)
    expect(text).toContain('old:3')
    expect(text).toContain('"result"')
    expect(text).not.toMatch(/transfer-encoding/i)
  })

  it('answers HEAD and OPTIONS as it does unwrapped', async () => {
    const { origin } = await serveFront(front, {
      app: { cors: front !== 'fastify' && front !== 'koa' && front !== 'node' },
    })
    const shape = appShape(front === 'url' ? 'express5' : front)
    const unwrapped = await serveUnwrapped(shape, { cors: shape.guarded })
    onTestFinished(() => unwrapped.close())
    for (const method of ['HEAD', 'OPTIONS', 'PUT', 'PATCH']) {
      for (const path of ['/mcp', '/hello']) {
        const head = [`${method} ${path} HTTP/1.1`, 'Host: localhost', 'Origin: https://app.example']
        const [own, theirs] = [await askRaw(origin, head), await askRaw(unwrapped.origin, head)]
        expect(own.status, `${method} ${path}`).toBe(theirs.status)
        const allowed = /^access-control-allow-origin: .*$/im
        expect(allowed.exec(own.head)?.[0]).toBe(allowed.exec(theirs.head)?.[0])
        if (method === 'HEAD') expect(own.body).toBe('')
      }
    }
  })
})

it('an upgrade reaches the server of a Fastify app, as it does unwrapped, but not with the id of a session', async () => {
  const app = fastify()
  app.server.on('upgrade', (req: IncomingMessage, socket) => {
    socket.end(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello ${req.url}`,
    )
  })
  const handler = withPersistence(app, 'memory:')
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await close()
  })
  const upgrade = (path: string) =>
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n`
  expect(await onTheWire(origin, upgrade('/socket'))).toContain('hello /socket')
  expect(await onTheWire(origin, upgrade('//socket'))).toMatch(/^HTTP\/1.1 400/)
})

it.each(['express5', 'hono'] as const)(
  '%s: an upgrade that nobody takes is a request like any other',
  async (front) => {
    const { origin } = await serveFront(front)
    const lines = [
      'GET /hello HTTP/1.1',
      'Host: localhost',
      'Connection: Upgrade, close',
      'Upgrade: websocket',
      '',
      '',
    ]
    expect(await onTheWire(origin, lines.join('\r\n'))).toMatch(/^HTTP\/1.1 200/)
  },
)

it('a client that reads slowly gets all of a body, and costs no listener for each wait', async () => {
  const size = 64 * 1024
  const chunks = 200
  const app = async (_req: IncomingMessage, res: ServerResponse) => {
    for (let i = 0; i < chunks; i += 1) if (!res.write(Buffer.alloc(size, 'x'))) await once(res, 'drain')
    res.end()
  }
  const warnings: Error[] = []
  const onWarning = (warning: Error) => void warnings.push(warning)
  process.on('warning', onWarning)
  const handler = withPersistence(app as never, 'memory:')
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    process.off('warning', onWarning)
    await handler.close({ deadline: 0 })
    await close()
  })
  const response = await fetch(`${origin}/mcp`, { method: 'POST', body: '{}' })
  let got = 0
  for await (const chunk of response.body!) {
    got += chunk.byteLength
    if (got % (1024 * 1024) < 65536) await sleep(1)
  }
  expect(got).toBe(size * chunks)
  expect(warnings).toEqual([])
})

it('a head that the app sends before it has anything to say is seen at once', async () => {
  const app = (_req: IncomingMessage, res: ServerResponse) => {
    res.writeHead(200, { 'content-type': 'text/plain' })
    res.flushHeaders()
    onTestFinished(() => void res.end())
  }
  const handler = withPersistence(app as never, 'memory:')
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await close()
  })
  const response = await within('the head', fetch(`${origin}/mcp`, { method: 'POST', body: '{}' }), 3000)
  expect(response.status).toBe(200)
  await response.body!.cancel()
})

describe('an app that asks for client certificates', () => {
  const { ca, server, client } = makeIdentities()

  async function serveTls() {
    const mcp = nodeApp('v1', { journal: memoryJournal() })
    const seen: unknown[] = []
    const app: RequestListener = (req, res) => {
      const { authorized, getPeerCertificate } = req.socket as TLSSocket
      const name = (getPeerCertificate.call(req.socket) as { subject?: { CN?: string } }).subject?.CN
      seen.push(name)
      if (!authorized || name !== 'alice') return void res.writeHead(403).end('no certificate')
      return mcp(req, res)
    }
    const handler = withPersistence(app as never, 'memory:')
    const secure = createHttps({ ...server, ca, requestCert: true, rejectUnauthorized: false }, handler)
    secure.listen(0, '127.0.0.1')
    await once(secure, 'listening')
    onTestFinished(async () => {
      await handler.close({ deadline: 0 })
      secure.close()
      secure.closeAllConnections()
    })
    return { port: (secure.address() as AddressInfo).port, seen }
  }

  async function ask(port: number, identity: object, method: string, headers: object, body?: string) {
    const own = { ca, ...identity, port, host: '127.0.0.1', path: '/mcp', method, agent: false }
    const types = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
    const sent = requestHttps({ ...own, headers: { ...types, ...headers } })
    sent.end(body)
    const [response] = (await within('an answer', once(sent, 'response'))) as [IncomingMessage]
    let text = ''
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    return { response, text: () => text, close: () => sent.destroy() }
  }

  it('finds that of the connection: on calls, and on what is asked in the name of its client', async () => {
    const { port } = await serveTls()
    const raw = new RawClient('')
    const opened = await ask(port, client, 'POST', {}, JSON.stringify(raw.initialize()))
    expect(opened.response.statusCode).toBe(200)
    const headers = { 'mcp-session-id': String(opened.response.headers['mcp-session-id']) }
    const called = await ask(
      port,
      client,
      'POST',
      headers,
      JSON.stringify(raw.toolCall('echo', { text: 'mutual' })),
    )
    await until('the answer', () => called.text().includes('mutual'))
    const standalone = await ask(port, client, 'GET', headers)
    expect(standalone.response.statusCode).toBe(200)
    standalone.close()
  })

  it('refuses a client without one, session id or not', async () => {
    const { port } = await serveTls()
    const raw = new RawClient('')
    const opened = await ask(port, client, 'POST', {}, JSON.stringify(raw.initialize()))
    const headers = { 'mcp-session-id': String(opened.response.headers['mcp-session-id']) }
    for (const method of ['POST', 'GET', 'DELETE']) {
      const body = method === 'POST' ? JSON.stringify(raw.request('tools/list')) : undefined
      expect((await ask(port, {}, method, headers, body)).response.statusCode).toBe(403)
      expect((await ask(port, {}, method, {}, body)).response.statusCode).toBe(403)
    }
  })
})
