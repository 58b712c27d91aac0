import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { freePort, type Listening, listen, listening } from '../support/net/listen.ts'
import { get, rawRequest } from '../support/net/raw-request.ts'
import { until, within } from '../support/wait.ts'

const MIB = 1024 * 1024
const SIZE = 200 * MIB
/** What buffers of sockets, streams and the garbage collector may hold; far below what goes through. */
const MOST = 60 * MIB

type Handler = ReturnType<typeof withPersistence>
type Listener = (req: IncomingMessage, res: ServerResponse) => void

interface Passing {
  readonly upstream: Listening
  readonly origin: string
  readonly handler: Handler
}

async function pass(listener: Listener): Promise<Passing> {
  const upstream = await listen(listener)
  const handler = withPersistence({ url: upstream.origin }, 'memory:')
  const { origin } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await upstream.close()
  })
  return { upstream, origin, handler }
}

async function connections({ server }: Listening): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, n) => (error ? reject(error) : resolve(n))),
  )
}

const block = randomBytes(MIB)

function* blocks(size = SIZE): Generator<Buffer> {
  for (let sent = 0; sent < size; sent += MIB) yield block
}

/** The most that memory grew while `work` ran. */
async function growth(work: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage.rss()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss())
  }, 5)
  await work().finally(() => clearInterval(timer))
  return most - before
}

async function digest(stream: AsyncIterable<Uint8Array>): Promise<{ bytes: number; hash: string }> {
  const hash = createHash('sha1')
  let bytes = 0
  for await (const chunk of stream) {
    hash.update(chunk)
    bytes += chunk.byteLength
  }
  return { bytes, hash: hash.digest('hex') }
}

describe('outside the endpoint { url } streams', () => {
  let whole: string
  beforeAll(async () => {
    whole = (await digest(Readable.from(blocks()))).hash
  })
  const large: Listener = (req, res) => {
    if (req.method === 'GET') Readable.from(blocks()).pipe(res)
    else void digest(req).then((got) => res.end(JSON.stringify(got)))
  }

  it('200 MB up, in bounded memory', async () => {
    const { origin } = await pass(large)
    const grown = await growth(async () => {
      const ask = request(`${origin}/up`, { method: 'POST' })
      Readable.from(blocks()).pipe(ask)
      const [answer] = (await once(ask, 'response')) as [IncomingMessage]
      expect(JSON.parse((await answer.toArray()).join(''))).toEqual({ bytes: SIZE, hash: whole })
    })
    expect(grown).toBeLessThan(MOST)
  }, 60_000)

  it('200 MB down, in bounded memory', async () => {
    const { origin } = await pass(large)
    const grown = await growth(async () => {
      const [answer] = (await once(request(`${origin}/down`).end(), 'response')) as [IncomingMessage]
      expect(await digest(answer)).toEqual({ bytes: SIZE, hash: whole })
    })
    expect(grown).toBeLessThan(MOST)
  }, 60_000)

  it('200 MB each way through .fetch, in bounded memory', async () => {
    const { handler } = await pass(large)
    const grown = await growth(async () => {
      const body = Readable.toWeb(Readable.from(blocks(), { objectMode: false })) as ReadableStream
      const init = { method: 'PUT', body, duplex: 'half' } as RequestInit
      const up = await handler.fetch(new Request('http://a/up', init))
      expect(await up.json()).toEqual({ bytes: SIZE, hash: whole })
      const down = await handler.fetch(new Request('http://a/down'))
      expect(await digest(down.body as never)).toEqual({ bytes: SIZE, hash: whole })
    })
    expect(grown).toBeLessThan(MOST)
  }, 60_000)

  it.each(['socket', 'fetch'])('no faster than a client reads, over %s', async (way) => {
    let written = 0
    const { origin, handler } = await pass((_req, res) => {
      const counted = Readable.from(blocks(64 * MIB)).on('data', () => {
        written += MIB
      })
      counted.pipe(res)
    })
    if (way === 'socket') {
      const ask = request(`${origin}/down`).end()
      const [answer] = (await once(ask, 'response')) as [IncomingMessage]
      answer.pause()
      onTestFinished(() => void ask.destroy())
    } else {
      const response = await handler.fetch(new Request('http://a/down'))
      onTestFinished(() => response.body!.cancel())
    }
    await sleep(500)
    const first = written
    await sleep(500)
    expect(written).toBe(first)
    expect(written).toBeLessThan(30 * MIB)
  })

  it('no faster than the server behind it reads', async () => {
    let read: IncomingMessage | undefined
    const { origin } = await pass((req) => {
      read = req.pause()
    })
    const ask = request(`${origin}/up`, { method: 'POST' })
    ask.on('error', () => {})
    onTestFinished(() => void ask.destroy())
    let accepted = 0
    const feed = Readable.from(blocks(64 * MIB)).on('data', () => {
      accepted += MIB
    })
    feed.pipe(ask)
    await until('the request', () => read)
    await sleep(1000)
    expect(accepted).toBeLessThan(30 * MIB)
  })

  it('a chunk as soon as it is there', async () => {
    let response: ServerResponse | undefined
    const { origin } = await pass((_req, res) => {
      response = res
      res.write('first')
    })
    const [answer] = (await once(request(`${origin}/parts`).end(), 'response')) as [IncomingMessage]
    const [first] = (await within('the first chunk', once(answer, 'data'))) as [Buffer]
    expect(String(first)).toBe('first')
    response!.end('second')
    expect((await answer.toArray()).join('')).toBe('second')
  })

  it('an answer that comes before the body has been read, and the connection stays good', async () => {
    const { origin } = await pass((_req, res) => {
      res.writeHead(413).end('too much')
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    onTestFinished(() => agent.destroy())
    for (let turn = 0; turn < 2; turn += 1) {
      const ask = request(`${origin}/up`, { method: 'POST', agent })
      ask.on('error', () => {})
      Readable.from(blocks(8 * MIB)).pipe(ask)
      const [answer] = (await within('the answer', once(ask, 'response'))) as [IncomingMessage]
      expect(answer.statusCode).toBe(413)
      expect((await answer.toArray()).join('')).toBe('too much')
    }
  })

  it('and breaks off where the server behind it does', async () => {
    const { origin, handler } = await pass((_req, res) => {
      res.writeHead(200, { 'content-length': 100 })
      res.write('half')
      setTimeout(() => res.destroy(), 20)
    })
    const [answer] = (await once(request(`${origin}/x`).end(), 'response')) as [IncomingMessage]
    await expect(answer.toArray()).rejects.toThrow(/aborted/)
    const response = await handler.fetch(new Request('http://a/x'))
    await expect(response.text()).rejects.toThrow()
  })
})

describe('outside the endpoint { url } keeps the shape of an answer', () => {
  const shapes: Listener = (req, res) => {
    const { pathname } = new URL(req.url!, 'http://a')
    if (pathname === '/hints') {
      res.writeEarlyHints({ link: '</style.css>; rel=preload', 'x-hint': 'yes' })
      res.writeProcessing()
      res.end('after the hints')
    } else if (pathname === '/trailers') {
      res.writeHead(200, { trailer: 'x-checksum' })
      res.write('body')
      res.addTrailers({ 'x-checksum': 'abc' })
      res.end()
    } else if (pathname === '/echo-trailers') {
      req.resume().on('end', () => res.end(JSON.stringify(req.trailers)))
    } else if (pathname === '/304') {
      res.writeHead(304, { etag: '"x"' }).end()
    } else if (pathname === '/204') {
      res.writeHead(204).end()
    } else if (pathname === '/cookies') {
      res.setHeader('set-cookie', ['a=1', 'b=2'])
      res.writeHead(201, 'Made Here').end('made')
    } else {
      res.setHeader('content-length', 12)
      res.end('twelve bytes')
    }
  }
  let shaped: Passing
  const ask = (target: string, headers?: string[], method?: string) =>
    rawRequest(shaped.origin, get(target, headers, method))
  it('all of them', async () => {
    shaped = await pass(shapes)

    const hints = await ask('/hints')
    expect(hints).toMatch(/^HTTP\/1.1 103 Early Hints\r\n/)
    expect(hints.toLowerCase()).toContain('link: </style.css>; rel=preload')
    expect(hints).toContain('HTTP/1.1 102 Processing')
    expect(hints).toMatch(/HTTP\/1.1 200 OK[\s\S]*after the hints/)

    const trailers = await ask('/trailers')
    expect(trailers).toMatch(/\r\n4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n$/i)

    const chunked = [
      'host: a',
      'transfer-encoding: chunked',
      'connection: close',
      '',
      '2',
      'hi',
      '0',
      'x-up: yes',
      '',
      '',
    ]
    expect(
      await rawRequest(shaped.origin, ['POST /echo-trailers HTTP/1.1', ...chunked].join('\r\n')),
    ).toContain('{"x-up":"yes"}')

    const head = await ask('/twelve', undefined, 'HEAD')
    expect(head).toMatch(/^HTTP\/1.1 200 OK\r\n[\s\S]*content-length: 12\r\n[\s\S]*\r\n\r\n$/i)
    expect(await ask('/304')).toMatch(/^HTTP\/1.1 304 Not Modified\r\netag: "x"\r\n[\s\S]*\r\n\r\n$/i)
    expect(await ask('/204')).toMatch(/^HTTP\/1.1 204 No Content\r\n[\s\S]*\r\n\r\n$/i)
    const cookies = await ask('/cookies')
    expect(cookies).toMatch(/^HTTP\/1.1 201 Made Here\r\n/)
    expect(cookies.match(/set-cookie: [ab]=[12]/gi)).toHaveLength(2)

    for (const [path, status, text] of [
      ['/204', 204, ''],
      ['/304', 304, ''],
      ['/twelve', 200, 'twelve bytes'],
    ] as const) {
      const response = await shaped.handler.fetch(new Request(`http://a${path}`))
      expect([response.status, await response.text()]).toEqual([status, text])
    }
    const answer = await shaped.handler.fetch(new Request('http://a/twelve', { method: 'HEAD' }))
    expect([answer.headers.get('content-length'), await answer.text()]).toEqual(['12', ''])
    const set = await shaped.handler.fetch(new Request('http://a/cookies'))
    expect(set.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  })
})

describe('headers', () => {
  let passing: Passing
  let seen: { target: string; lines: [string, string][] } | undefined
  let answer: Record<string, string | string[]> = {}
  beforeAll(async () => {
    const upstream = await listen((req, res) => {
      const lines: [string, string][] = []
      for (let i = 0; i < req.rawHeaders.length; i += 2)
        lines.push([req.rawHeaders[i]!.toLowerCase(), req.rawHeaders[i + 1]!])
      seen = { target: req.url!, lines }
      for (const [name, value] of Object.entries(answer)) res.setHeader(name, value)
      req.resume().on('end', () => res.end('ok'))
    })
    const handler = withPersistence({ url: upstream.origin }, 'memory:')
    const { origin } = await listening(handler.listen(0, '127.0.0.1'))
    passing = { upstream, origin, handler }
  })
  afterAll(async () => {
    await passing.handler.close({ deadline: 0 })
    await passing.upstream.close()
  })

  const valuesOf = (name: string) => seen!.lines.filter(([each]) => each === name).map(([, value]) => value)

  const there: readonly (readonly [
    what: string,
    sent: string[],
    name: string,
    got: string[] | 'upstream',
  ])[] = [
    ['Host is the upstream’s', ['host: mcp.example.com'], 'host', 'upstream'],
    [
      'Host goes on as X-Forwarded-Host',
      ['host: mcp.example.com:8080'],
      'x-forwarded-host',
      ['mcp.example.com:8080'],
    ],
    ['a claimed X-Forwarded-Host does not', ['host: a', 'x-forwarded-host: evil'], 'x-forwarded-host', ['a']],
    ['the peer’s address', ['host: a'], 'x-forwarded-for', ['127.0.0.1']],
    [
      '… after what is claimed',
      ['host: a', 'x-forwarded-for: 1.2.3.4, 5.6.7.8'],
      'x-forwarded-for',
      ['1.2.3.4, 5.6.7.8, 127.0.0.1'],
    ],
    ['the protocol', ['host: a'], 'x-forwarded-proto', ['http']],
    [
      '… kept from whoever is in front',
      ['host: a', 'x-forwarded-proto: https'],
      'x-forwarded-proto',
      ['https'],
    ],
    ['keep-alive ends here', ['host: a', 'keep-alive: timeout=9'], 'keep-alive', []],
    ['te', ['host: a', 'te: trailers'], 'te', []],
    ['trailer', ['host: a', 'trailer: x-a'], 'trailer', []],
    ['proxy-authorization', ['host: a', 'proxy-authorization: Basic x'], 'proxy-authorization', []],
    ['proxy-connection', ['host: a', 'proxy-connection: close'], 'proxy-connection', []],
    ['what Connection names', ['host: a', 'connection: x-mine, x-other', 'x-mine: 1'], 'x-mine', []],
    [
      '… but not the credentials',
      ['host: a', 'connection: authorization', 'authorization: Bearer x'],
      'authorization',
      ['Bearer x'],
    ],
    [
      'an offer to upgrade',
      ['host: a', 'connection: upgrade', 'upgrade: h2c', 'http2-settings: AAMAAABkAAQAAP__'],
      'upgrade',
      [],
    ],
    [
      '… with its settings',
      ['host: a', 'connection: upgrade, http2-settings', 'upgrade: h2c', 'http2-settings: AAMA'],
      'http2-settings',
      [],
    ],
    ['any other', ['host: a', 'x-own: 1'], 'x-own', ['1']],
    ['one that stands twice', ['host: a', 'x-own: 1', 'x-own: 2'], 'x-own', ['1', '2']],
    ['a name that objects have', ['host: a', '__proto__: 1', 'constructor: 2'], 'constructor', ['2']],
  ]

  it.each(there)('to the server: %s', async (_what, sent, name, got) => {
    await rawRequest(passing.origin, get('/any', sent))
    expect(valuesOf(name)).toEqual(got === 'upstream' ? [new URL(passing.upstream.origin).host] : got)
  })

  it.each(there)('to the server, on the endpoint: %s', async (what, sent, name, got) => {
    // There, what stands twice has been made one.
    const expected = what.includes('twice') ? ['1, 2'] : got
    const body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    const headers = [...sent, 'content-type: application/json', `content-length: ${body.length}`]
    await rawRequest(passing.origin, Buffer.concat([get('/mcp', headers, 'POST'), Buffer.from(body)]))
    expect(seen!.target).toBe('/mcp')
    expect(valuesOf(name)).toEqual(
      expected === 'upstream' ? [new URL(passing.upstream.origin).host] : expected,
    )
  })

  it('to the client: what speaks of the connection to the server ends here', async () => {
    answer = {
      connection: 'close, x-mine',
      'x-mine': '1',
      'proxy-authenticate': 'Basic',
      'keep-alive': 'timeout=77',
      'x-own': ['1', '2'],
    }
    for (const target of ['/any', '/mcp']) {
      const text = await rawRequest(passing.origin, get(target, ['host: a'], 'OPTIONS'))
      expect(text).not.toMatch(/x-mine|proxy-authenticate|timeout=77/i)
      expect(text.match(/x-own: [12]/gi)).toHaveLength(2)
    }
    answer = {}
  })
})

describe('sockets', () => {
  it('a client that leaves takes the connection behind us along', async () => {
    let open = 0
    const { origin, upstream, handler } = await pass((req, res) => {
      open += 1
      res.on('close', () => {
        open -= 1
      })
      if (req.url === '/begun') res.write('begun')
    })
    for (const path of ['/silent', '/begun']) {
      const clients = Array.from({ length: 50 }, () => {
        const ask = request(`${origin}${path}`).end()
        ask.on('error', () => {})
        return ask
      })
      await until('the requests', () => open === 50)
      for (const ask of clients) ask.destroy()
      await until('the end of them', () => open === 0)
      await until('no connection', async () => (await connections(upstream)) === 0)
    }
    const controller = new AbortController()
    const aborted = handler.fetch(new Request('http://a/silent', { signal: controller.signal }))
    await until('the request', () => open === 1)
    controller.abort()
    await expect(aborted).resolves.toMatchObject({ status: 502 })
    await until('no connection', async () => (await connections(upstream)) === 0)
  })

  it('close() leaves none', async () => {
    const { origin, upstream, handler } = await pass((req, res) =>
      req.resume().on('end', () => res.end('ok')),
    )
    await Promise.all(
      Array.from({ length: 20 }, () => fetch(`${origin}/any`).then((answer) => answer.text())),
    )
    expect(await connections(upstream)).toBeGreaterThan(0)
    await handler.close({ deadline: 0 })
    await until('no connection', async () => (await connections(upstream)) === 0)
  })

  it('no one there: 502, and once in the log', async () => {
    const lines: string[] = []
    const logger = {
      debug() {},
      info() {},
      warn: (_: object, text: string) => lines.push(text),
      error: (_: object, text: string) => lines.push(text),
    }
    const port = await freePort()
    const handler = withPersistence({ url: `http://127.0.0.1:${port}` }, 'memory:', { logger })
    const { origin } = await listening(handler.listen(0, '127.0.0.1'))
    onTestFinished(() => handler.close({ deadline: 0 }))
    for (let i = 0; i < 5; i += 1) {
      const answer = await fetch(`${origin}/any`)
      expect([answer.status, await answer.text()]).toEqual([502, expect.not.stringContaining(String(port))])
      expect((await handler.fetch(new Request('http://a/any'))).status).toBe(502)
      await sleep(20)
    }
    expect(lines).toEqual([expect.stringContaining('cannot be reached')])
    const { close } = await listen((_req, res) => res.end('here'), port)
    onTestFinished(close)
    await until('the answer', async () => (await fetch(`${origin}/any`)).status === 200)
    expect(lines).toEqual([expect.stringContaining('cannot be reached'), expect.stringContaining('back')])
  })
})

describe('a connection that leaves HTTP behind', () => {
  async function tunnelled() {
    const passing = await pass((_req, res) => res.writeHead(426, { 'x-why': 'because' }).end('no'))
    passing.upstream.server.on('upgrade', (req, socket, head) => {
      if (req.url === '/refuse') {
        socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\nx-own: 1\r\n\r\nnot!')
        return
      }
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-for: ${req.headers['x-forwarded-for']}\r\n\r\nhello`,
      )
      socket.write(head)
      socket.on('error', () => {})
      socket.pipe(socket)
    })
    return passing
  }
  const upgrade = (path: string, protocol = 'websocket') =>
    `GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: ${protocol}\r\n\r\n`

  function open(origin: string, bytes: string) {
    const socket = connect(Number(new URL(origin).port), '127.0.0.1')
    const got = { text: '', closed: false }
    socket.on('data', (data) => {
      got.text += data.toString('latin1')
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      got.closed = true
    })
    socket.write(bytes)
    onTestFinished(() => void socket.destroy())
    return { socket, got }
  }

  it('goes to and fro, and its end is the end at both sides', async () => {
    const { origin, upstream } = await tunnelled()
    const { socket, got } = open(origin, `${upgrade('/socket')}early`)
    await until('the echo', () => got.text.endsWith('helloearly'))
    expect(got.text).toMatch(/^HTTP\/1.1 101 Switching Protocols\r\n/)
    expect(got.text).toMatch(/x-for: 127.0.0.1/)
    socket.write('later')
    await until('the echo', () => got.text.endsWith('earlylater'))
    socket.destroy()
    await until('no connection', async () => (await connections(upstream)) === 0)
  })

  it('is refused in the words of the server behind us', async () => {
    const { origin, upstream } = await tunnelled()
    const { got } = open(origin, upgrade('/refuse'))
    await until('the end', () => got.closed)
    expect(got.text).toMatch(/^HTTP\/1.1 403 Forbidden\r\n[\s\S]*x-own: 1[\s\S]*not!/)
    await until('no connection', async () => (await connections(upstream)) === 0)
  })

  it('an offer of HTTP/2, or on the endpoint, is served without it, its body and all', async () => {
    const { origin } = await tunnelled()
    const body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    for (const [path, protocol] of [
      ['/any', 'h2c'],
      ['/mcp', 'websocket'],
      ['/mcp', 'h2c'],
    ] as const) {
      const { got, socket } = open(
        origin,
        `POST ${path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: ${protocol}\r\nhttp2-settings: AAMA\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
      )
      await sleep(20)
      socket.write(body)
      await until('the answer', () => got.text.endsWith('no') || got.text.endsWith('0\r\n\r\n'))
      expect(got.text, path).toMatch(/^HTTP\/1.1 426 [\s\S]*x-why: because/)
      // And the connection is as good as before.
      got.text = ''
      socket.write('GET /again HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
      await until('the end', () => got.closed)
      expect(got.text).toMatch(/^HTTP\/1.1 426 /)
    }
  })

  it('does not keep close() waiting', async () => {
    const { origin, upstream, handler } = await tunnelled()
    const { got } = open(origin, upgrade('/socket'))
    await until('the greeting', () => got.text.endsWith('hello'))
    await within('close()', handler.close({ deadline: 8000 }), 4000)
    await until('the end', () => got.closed)
    await until('no connection', async () => (await connections(upstream)) === 0)
  })

  it('to nobody is 502', async () => {
    const { origin, upstream } = await tunnelled()
    await upstream.close()
    const { got } = open(origin, upgrade('/socket'))
    await until('the end', () => got.closed)
    expect(got.text).toMatch(/^HTTP\/1.1 502 /)
  })
})
