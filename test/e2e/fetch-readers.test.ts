import { setTimeout as sleep } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import { describe, expect, it, onTestFinished } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { openStore } from '../../src/store/open-store.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { type Message, RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { until, within } from '../support/wait.ts'

type Body = ReadableStream<Uint8Array>
type Reader = (body: Body, take: (chunk: Uint8Array) => void) => Promise<void>

/** However somebody may read a body: at once, in pieces, through others, slowly, by turns. */
const READERS: Record<string, Reader> = {
  'for await': async (body, take) => {
    for await (const chunk of body) take(chunk)
  },
  'pipeTo()': (body, take) => body.pipeTo(new WritableStream({ write: take })),
  'pipeThrough()': (body, take) =>
    body
      .pipeThrough(new TransformStream())
      .pipeThrough(new TransformStream())
      .pipeTo(new WritableStream({ write: take })),
  'text()': async (body, take) => take(new TextEncoder().encode(await new Response(body).text())),
  'getReader()': async (body, take) => {
    const reader = body.getReader()
    for (let next = await reader.read(); !next.done; next = await reader.read()) take(next.value)
  },
  'getReader() and timers': async (body, take) => {
    const reader = body.getReader()
    let count = 0
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      take(next.value)
      count += 1
      if (count % 3 === 0) await sleep(1)
      if (count % 7 === 0) await new Promise(setImmediate)
    }
  },
  'tee()': async (body, take) => {
    const [one, other] = body.tee()
    await Promise.all([one.pipeTo(new WritableStream({ write: take })), new Response(other).text()])
  },
}

const SIZE = 9_000
const COUNT = 200

async function open(store: string) {
  const { app } = await appShape('hono').build({ journal: memoryJournal() })
  const opened = openStore(store)
  const handler = withPersistence(app as Parameters<typeof withPersistence>[0], opened, { keepAlive: 0 })
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await opened.close()
  })
  const client = new RawClient('http://localhost/mcp')
  const send = (method: string, body?: Message, headers: Record<string, string> = {}) =>
    handler.fetch(
      new Request(client.url, {
        method,
        headers: {
          accept: 'application/json, text/event-stream',
          'mcp-protocol-version': '2025-11-25',
          ...(body && { 'content-type': 'application/json' }),
          ...(client.session !== undefined && { 'mcp-session-id': client.session }),
          ...headers,
        },
        ...(body && { body: JSON.stringify(body) }),
      }),
    )
  const opening = await send('POST', client.initialize())
  client.session = opening.headers.get('mcp-session-id') ?? undefined
  await opening.text()
  await (await send('POST', { jsonrpc: '2.0', method: 'notifications/initialized' })).text()
  return { client, send, store: opened }
}

/** The messages of a body and its first event id. */
async function read(
  response: Response,
  reader: Reader,
): Promise<{ messages: Message[]; firstId: string | undefined }> {
  const messages: Message[] = []
  let firstId: string | undefined
  const parser = createParser({
    onEvent: ({ id, data }) => {
      firstId ??= id
      if (data !== '') messages.push(JSON.parse(data) as Message)
    },
  })
  const decoder = new TextDecoder()
  const reading = reader(response.body!, (chunk) => parser.feed(decoder.decode(chunk, { stream: true })))
  await within('the whole body', reading, 20_000)
  return { messages, firstId }
}

function expectAll(messages: readonly Message[], from: number): void {
  const logs = messages.filter(({ method }) => method === 'notifications/message')
  expect(logs.map(({ params }) => String(params?.['data']).split(':')[1])).toEqual(
    Array.from({ length: COUNT - from }, (_, i) => String(i + 1 + from)),
  )
  expect(messages.at(-1)?.result).toBeDefined()
}

describe.each(['memory:', 'sqlite::memory:'])('%s', (store) => {
  it.each(Object.entries(READERS))(
    '%s reads a stream to its end: as it runs, and again',
    async (_, reader) => {
      const { client, send } = await open(store)
      const tag = 'x'.repeat(SIZE)
      const call = client.toolCall('burst', { tag, count: COUNT, via: 'call' })
      const first = await read(await send('POST', call), reader)
      expectAll(first.messages, 0)
      const again = await read(await send('GET', undefined, { 'last-event-id': first.firstId! }), reader)
      expectAll(again.messages, 0)
    },
    60_000,
  )

  it('whoever stops in the middle can go on from there, and leaves nothing behind', async () => {
    const { client, send } = await open(store)
    const call = client.toolCall('burst', { tag: 'x'.repeat(SIZE), count: COUNT, via: 'call' })
    const { firstId } = await read(await send('POST', call), READERS['text()']!)
    for (const pieces of [0, 1, 5]) {
      const cut = await send('GET', undefined, { 'last-event-id': firstId! })
      const reader = cut.body!.getReader()
      for (let i = 0; i < pieces; i += 1) await reader.read()
      await reader.cancel()
    }
    const whole = await read(
      await send('GET', undefined, { 'last-event-id': firstId! }),
      READERS['for await']!,
    )
    expectAll(whole.messages, 0)
  }, 60_000)
})

it('a request that is given up before its answer leaves no stream behind', async () => {
  const { app } = await appShape('hono').build({ journal: memoryJournal() })
  const store = openStore('memory:')
  const handler = withPersistence(app as Parameters<typeof withPersistence>[0], store, { ttl: 0.5 })
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await store.close()
  })
  const headers = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }
  const body = JSON.stringify(new RawClient('').initialize())
  const opened = await handler.fetch(new Request('http://localhost/mcp', { method: 'POST', headers, body }))
  const session = opened.headers.get('mcp-session-id')!
  const abort = new AbortController()
  const listening = handler.fetch(
    new Request('http://localhost/mcp', {
      headers: { ...headers, 'mcp-session-id': session },
      signal: abort.signal,
    }),
  )
  abort.abort()
  await listening.catch(() => {})
  // A stream that somebody follows would be use of the session.
  await until('the end of the session', async () => (await store.sessions.get(session)) === undefined)
})
