import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { type Listening, listen, listening } from '../support/net/listen.ts'
import { get, rawRequest } from '../support/net/raw-request.ts'

/** What nobody but this machine should be able to ask. */
let inside: Listening
let upstream: Listening
let served: Listening
let handler: ReturnType<typeof withPersistence>
let asked: string[] = []
let arrived: { target: string; host: string | undefined }[] = []

beforeAll(async () => {
  inside = await listen((req, res) => {
    asked.push(`${req.method} ${req.url}`)
    res.end('the secret')
  })
  upstream = await listen((req, res) => {
    arrived.push({ target: req.url ?? '', host: req.headers.host })
    req.resume().on('end', () => res.end('from the app'))
  })
  handler = withPersistence({ url: upstream.origin }, 'memory:')
  served = await listening(handler.listen(0, '127.0.0.1'))
})
afterAll(async () => {
  await handler.close({ deadline: 0 })
  await Promise.all([inside.close(), upstream.close()])
})
beforeEach(() => {
  asked = []
  arrived = []
})

/** Every way to name another server in the target of a request. */
function targets(authority: string): string[] {
  return [
    `http://${authority}/secret`,
    `HTTP://${authority}/secret`,
    `https://${authority}/secret`,
    `ws://${authority}/secret`,
    `file://${authority}/secret`,
    `http://localhost@${authority}/secret`,
    `http:${authority}/secret`,
    `//${authority}/secret`,
    `///${authority}/secret`,
    `/\\${authority}/secret`,
    `\\\\${authority}/secret`,
    `/\\/${authority}/secret`,
    `@${authority}/secret`,
    `/@${authority}/secret`,
    `:80@${authority}/secret`,
    `/..//${authority}/secret`,
    `/.//${authority}/secret`,
    `/%2f%2f${authority}/secret`,
    `/%5c%5c${authority}/secret`,
    `/\t//${authority}/secret`,
    `/a?http://${authority}/secret`,
    `/a#@${authority}/secret`,
    `/%0d%0aHost:%20${authority}%0d%0a`,
    `${authority}`,
    `*`,
  ]
}

async function expectOnlyTheUpstream(): Promise<void> {
  // That a plain one arrives shows that there was something to see.
  await rawRequest(served.origin, get('/control'))
  expect(arrived.at(-1)?.target).toBe('/control')
  expect(asked).toEqual([])
  for (const { host, target } of arrived) {
    expect(host).toBe(new URL(upstream.origin).host)
    expect(target === '*' || target.startsWith('/')).toBe(true)
  }
}

describe('a request names another server, and { url } goes to its own or nowhere', () => {
  it.each(['GET', 'POST', 'OPTIONS', 'HEAD', 'PUT', 'DELETE'])('%s', async (method) => {
    for (const target of targets(new URL(inside.origin).host)) {
      const answer = await rawRequest(
        served.origin,
        get(target, ['host: localhost', 'content-length: 0'], method),
      )
      expect(answer, target).not.toContain('the secret')
    }
    await expectOnlyTheUpstream()
  })

  it('in its Host, its headers, and in CONNECT', async () => {
    const { host } = new URL(inside.origin)
    for (const claim of [
      `host: ${host}`,
      `host: localhost\r\nx-forwarded-host: ${host}`,
      `host: localhost@${host}`,
    ]) {
      await rawRequest(served.origin, get('/any', [claim]))
    }
    await rawRequest(served.origin, get(host, [`host: ${host}`], 'CONNECT'))
    await expectOnlyTheUpstream()
  })

  it('in an upgrade', async () => {
    for (const target of targets(new URL(inside.origin).host)) {
      const upgrade = `GET ${target} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`
      const answer = await rawRequest(served.origin, upgrade, 500)
      expect(answer, target).not.toContain('the secret')
    }
    await expectOnlyTheUpstream()
  })

  it('through .fetch', async () => {
    const { host } = new URL(inside.origin)
    const urls = [
      `http://a//${host}/secret`,
      `http://a/\\${host}/secret`,
      `http://${host}/secret`,
      `http://a/@${host}/x`,
    ]
    for (const url of urls) {
      const response = await handler.fetch(new Request(url))
      expect(await response.text(), url).not.toContain('the secret')
    }
    await expectOnlyTheUpstream()
  })

  it('on the endpoint: absolute form, credentials, and a session id with a host in it', async () => {
    const { host } = new URL(inside.origin)
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
    for (const target of ['/mcp', `http://${host}/mcp`, `//${host}/mcp`, `/mcp?u=http://${host}/`]) {
      const headers = [`host: ${host}`, `content-length: ${body.length}`, 'content-type: application/json']
      await rawRequest(served.origin, Buffer.concat([get(target, headers, 'POST'), Buffer.from(body)]))
    }
    await expectOnlyTheUpstream()
  })

  it('a request that ends another one inside of it is one request to the server behind us', async () => {
    const smuggled = 'GET /secret HTTP/1.1\r\nhost: inside\r\n\r\n'
    const both = `POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: ${smuggled.length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`
    await rawRequest(served.origin, both + smuggled, 500)
    const get = `GET /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`
    await rawRequest(served.origin, get)
    expect(arrived.map(({ target }) => target)).toEqual(['/b'])
  })
})
