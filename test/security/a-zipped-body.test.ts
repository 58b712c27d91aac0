import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { FRONTS, serveFront, wrap } from '../support/apps/front.ts'
import { type Message, RawClient, RawStream } from '../support/clients/raw-client.ts'

const ENCODINGS = { gzip: gzipSync, deflate: deflateSync, br: brotliCompressSync }

interface Sent {
  readonly encoding?: string
  readonly session?: string | undefined
  readonly headers?: Record<string, string>
}

async function send(
  url: string,
  body: Buffer,
  { encoding = 'gzip', session, headers = {} }: Sent,
): Promise<Response> {
  const all = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'content-encoding': encoding,
    ...(session !== undefined && { 'mcp-session-id': session }),
    ...headers,
  }
  return fetch(url, { method: 'POST', headers: all, body: new Uint8Array(body) })
}

const bytes = (message: Message) => Buffer.from(JSON.stringify(message))

describe.each(FRONTS)('%s', (front) => {
  it.each(Object.entries(ENCODINGS))(
    'a session opened and used with %s is a session like any other',
    async (encoding, zip) => {
      const { url, store } = await serveFront(front)
      const client = new RawClient(url)
      const opened = await send(url, zip(bytes(client.initialize())), { encoding })
      await opened.text()
      expect(opened.status).toBe(200)
      client.session = opened.headers.get('mcp-session-id') ?? undefined
      expect(await store.sessions.get(client.session!)).toBeDefined()
      const call = zip(bytes(client.toolCall('echo', { text: 'zipped' })))
      const stream = new RawStream(
        await send(url, call, { encoding, session: client.session }),
        new AbortController(),
      )
      await stream.over()
      expect(JSON.stringify(stream.messages)).toContain('zipped')
      // As of any call: it can be resumed.
      const resumed = await client.listen(stream.events[0]!.id)
      await resumed.over()
      expect(JSON.stringify(resumed.messages)).toContain('zipped')
    },
  )
})

it('what one body was encoded with is not said of the next: a running call lives on', async () => {
  const { url, store } = await serveFront('express5')
  const client = await RawClient.open(url)
  const generation = async () => (await store.sessions.get(client.session!))?.generation
  const opened = await generation()
  const running = await client.stream(client.toolCall('slow', { tag: 'run', steps: 40, ms: 10 }))
  await running.count(2)
  const headers = { 'content-md5': 'x', digest: 'x', 'if-none-match': '*', range: 'bytes=0-1' }
  const note = bytes({ jsonrpc: '2.0', method: 'notifications/roots/list_changed' })
  const told = await send(url, gzipSync(note), { session: client.session, headers })
  expect(told.status).toBe(202)
  const bad = await client.post('{"jsonrpc"')
  await bad.text()
  expect(bad.status).toBe(400)
  await running.over()
  expect(running.messages.at(-1)?.result).toBeDefined()
  expect(await generation()).toBe(opened)
})

describe.each(['express5', 'hono'] as const)('%s', (front) => {
  it('413 for what is small until it is inflated', async () => {
    const { url } = await serveFront(front, { options: { maxBodyBytes: 100_000 } })
    const bombs = Object.entries(ENCODINGS).map(
      ([name, zip]) => [name, zip(Buffer.alloc(5_000_000))] as const,
    )
    for (const [encoding, bytes] of bombs) {
      expect(bytes.byteLength).toBeLessThan(100_000)
      const bomb = await send(url, bytes, { encoding })
      expect(await bomb.text()).toContain('100000 bytes')
      expect(bomb.status).toBe(413)
    }
  })

  it('415 for an encoding that nobody knows, with those that are known; 400 for what is not what it says', async () => {
    const { url } = await serveFront(front)
    for (const encoding of ['zstd', 'gzip, br', 'constructor', 'x']) {
      const unknown = await send(url, Buffer.from('{}'), { encoding })
      await unknown.text()
      expect(unknown.status).toBe(415)
      expect(unknown.headers.get('accept-encoding')).toBe('gzip, deflate, br')
    }
    const broken = await send(url, Buffer.from('not zipped'), {})
    await broken.text()
    expect(broken.status).toBe(400)
    const short = await send(url, gzipSync('{}').subarray(0, 12), {})
    await short.text()
    expect(short.status).toBe(400)
  })
})

it('the fetch form inflates and refuses alike', async () => {
  const handler = await wrap('hono', { options: { maxBodyBytes: 100_000 } })
  const ask = (body: Buffer, encoding: string) => {
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'content-encoding': encoding,
    }
    return handler.fetch(
      new Request('http://localhost/mcp', { method: 'POST', headers, body: new Uint8Array(body) }),
    )
  }
  const opened = await ask(gzipSync(bytes(new RawClient('').initialize())), 'gzip')
  expect(opened.status).toBe(200)
  expect(await opened.text()).toContain('protocolVersion')
  expect((await ask(gzipSync(Buffer.alloc(5_000_000)), 'gzip')).status).toBe(413)
  expect((await ask(Buffer.from('{}'), 'zstd')).status).toBe(415)
})

it('413 is heard also where the length of a body was not said', async () => {
  const { url } = await serveFront('node', { options: { maxBodyBytes: 1000 } })
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new Uint8Array(2000))
      controller.close()
    },
  })
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body, duplex: 'half' }
  const response = await fetch(url, init as RequestInit)
  await response.text()
  expect(response.status).toBe(413)
})
