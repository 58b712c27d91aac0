import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { appShape, appShapes } from '../support/apps/app-shapes.ts'
import { hello, parts } from '../support/apps/frameworks/routes.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { serveUnwrapped, serveWrapped, type Wrapped } from '../support/serve.ts'
import { until } from '../support/wait.ts'

const nowhere = '00000000-0000-4000-8000-000000000000'

/** What a client is told, in every app shape: the answers of the protocol, whoever gives them. */
describe.each(appShapes)('$name', (shape) => {
  let served: Wrapped
  beforeAll(async () => {
    served = await serveWrapped(shape)
  })
  afterAll(() => served.close())

  async function open(): Promise<RawClient> {
    const client = await RawClient.open(served.url)
    onTestFinished(() => client.close())
    return client
  }

  async function statusOf(response: Promise<Response>): Promise<number> {
    const answer = await response
    await answer.text().catch(() => '')
    return answer.status
  }

  it('404 for a session id that nobody knows, of whatever look', async () => {
    const client = await open()
    const prefix = client.session!.slice(0, -1)
    for (const id of [nowhere, 'x', prefix, `${client.session}x`, "' OR 1=1 --", 'a'.repeat(3000)]) {
      const stranger = client.clone()
      stranger.session = id
      expect(await statusOf(stranger.post(stranger.request('tools/list'))), id).toBe(404)
      expect(await statusOf(stranger.get()), id).toBe(404)
      expect(await statusOf(stranger.get({ 'last-event-id': 'x' })), id).toBe(404)
      expect(await statusOf(stranger.delete()), id).toBe(404)
    }
    expect(await client.tool('echo', { text: 'unharmed' })).toBe('unharmed')
  })

  it('400 without a session id, and for a protocol version that nobody speaks', async () => {
    const client = await open()
    const none = { 'mcp-session-id': undefined }
    expect(await statusOf(client.post(client.request('tools/list'), none))).toBe(400)
    expect(await statusOf(client.get(none))).toBe(400)
    expect(await statusOf(client.delete(none))).toBe(400)
    const version = { 'mcp-protocol-version': '1999-01-01' }
    expect(await statusOf(client.post(client.request('tools/list'), version))).toBe(400)
    expect(await statusOf(client.get(version))).toBe(400)
    expect(await client.tool('echo', { text: 'unharmed' })).toBe('unharmed')
  })

  it('406 for an Accept that leaves no way to answer', async () => {
    const client = await open()
    expect(await statusOf(client.post(client.request('tools/list'), { accept: 'text/html' }))).toBe(406)
    expect(await statusOf(client.get({ accept: 'application/json' }))).toBe(406)
  })

  it('400 for what is no JSON, and 415 for what does not say that it is', async () => {
    const client = await open()
    expect(await statusOf(client.post('{"jsonrpc"'))).toBe(400)
    const plain = { 'content-type': 'text/plain' }
    expect(await statusOf(client.post(client.request('tools/list'), plain))).toBe(415)
  })

  it('405 for a method that is none', async () => {
    const { session } = await open()
    const headers = { 'mcp-session-id': session! }
    const response = await fetch(served.url, { method: 'PUT', headers, body: '{}' })
    await response.text()
    expect(response.status).toBe(405)
  })

  it('202 for notifications and for answers to questions that nobody asked', async () => {
    const client = await open()
    const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 999 } }
    expect(await statusOf(client.post(cancelled))).toBe(202)
    expect(await statusOf(client.post({ jsonrpc: '2.0', id: 'no-such', result: {} }))).toBe(202)
    expect(await client.tool('echo', { text: 'unharmed' })).toBe('unharmed')
  })

  it('404 after DELETE, for everything, and the streams of the session end', async () => {
    const client = await open()
    const standalone = await client.listen()
    const running = await client.stream(client.toolCall('slow', { tag: 'deleted', steps: 1000, ms: 10 }))
    await running.count(2)
    expect(await statusOf(client.delete())).toBe(200)
    await Promise.all([standalone.over(), running.over()])
    expect(await statusOf(client.post(client.request('tools/list')))).toBe(404)
    expect(await statusOf(client.get())).toBe(404)
    expect(await statusOf(client.get({ 'last-event-id': running.lastEventId }))).toBe(404)
    expect(await statusOf(client.delete())).toBe(404)
    await until('the running call to be aborted', () =>
      served.journal.entries().some(({ what, tag }) => what === 'aborted' && tag === 'deleted'),
    )
  })

  it('an initialize in a batch, in a session, or as a notification is what it is unwrapped', async () => {
    const unwrapped = await serveUnwrapped(shape)
    onTestFinished(() => unwrapped.close())
    const answers = async (url: string): Promise<readonly [status: number, opened: boolean][]> => {
      const client = await RawClient.open(url)
      const none = { 'mcp-session-id': undefined, 'mcp-protocol-version': undefined }
      const { id: _, ...notification } = client.initialize()
      const bodies: [body: unknown, headers: Record<string, undefined>][] = [
        [[client.initialize()], none],
        [[client.initialize(), client.initialize()], none],
        [[client.initialize(), client.request('tools/list')], none],
        // A factory has no app of its own to say that it takes one.
        ...(shape.kind === 'app' ? [[notification, none] as [unknown, typeof none]] : []),
        [client.initialize(), {}],
        [[client.initialize()], {}],
      ]
      const all: [number, boolean][] = []
      for (const [body, headers] of bodies) {
        const response = await client.post(body, headers)
        const session = response.headers.get('mcp-session-id')
        await response.text()
        all.push([response.status, response.ok && session !== null])
        if (!response.ok || session === null) continue
        const opened = client.clone()
        opened.session = session
        expect(await opened.tool('counter')).toBe('1')
      }
      return all
    }
    const expected = await answers(unwrapped.url)
    expect(expected[0]).toEqual([200, true])
    expect(await answers(served.url)).toEqual(expected)
  })

  it('passes on what is not ours, streaming included', async () => {
    if (shape.kind === 'factory')
      return expect((await shape.build({ journal: served.journal })).app).toBeTypeOf('function')
    expect(await (await fetch(`${served.origin}/hello`)).text()).toBe(hello)
    const { body } = await fetch(`${served.origin}/parts`)
    const chunks: string[] = []
    const decoder = new TextDecoder()
    for await (const chunk of body!) chunks.push(decoder.decode(chunk))
    expect(chunks).toEqual(parts)
    const missing = await fetch(`${served.origin}/no-such-route`)
    await missing.text()
    expect(missing.status).toBe(404)
  })
})

describe('limits', () => {
  it('413 for a body that is too large', async () => {
    const served = await serveWrapped(appShape('node'), { options: { maxBodyBytes: 2000 } })
    onTestFinished(() => served.close())
    const client = await RawClient.open(served.url)
    const response = await client.post(client.toolCall('echo', { text: 'x'.repeat(3000) }))
    await response.text()
    expect(response.status).toBe(413)
    expect(await client.tool('echo', { text: 'x'.repeat(1000) })).toHaveLength(1000)
  })

  it('a session ends when nobody has used it for its ttl, and lives while it is used', async () => {
    const served = await serveWrapped(appShape('express5'), { options: { ttl: 0.6 } })
    onTestFinished(() => served.close())
    const [used, idle] = [await RawClient.open(served.url), await RawClient.open(served.url)]
    const started = performance.now()
    while (performance.now() - started < 1500) {
      expect(await used.tool('counter')).toBeDefined()
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    const response = await idle.post(idle.request('tools/list'))
    await response.text()
    expect(response.status).toBe(404)
    expect(Number(await used.tool('counter'))).toBeGreaterThan(5)
  })

  it('a session with an open standalone stream does not end', async () => {
    const served = await serveWrapped(appShape('express5'), { options: { ttl: 0.6 } })
    onTestFinished(() => served.close())
    const client = await RawClient.open(served.url)
    const stream = await client.listen()
    await new Promise((resolve) => setTimeout(resolve, 1500))
    expect(stream.state).toBe('open')
    expect(await client.tool('counter')).toBe('1')
    client.close()
  })
})
