import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { openStore } from '../../src/store/open-store.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { resourceUri } from '../support/apps/tools.ts'
import { backends, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { until } from '../support/wait.ts'
import { serveApp, statusOf } from './support.ts'

async function app(options: { json?: boolean } = {}) {
  const journal = memoryJournal()
  return { app: (await appShape('express5').build({ journal, ...options })).app as never, journal }
}

async function openAt(url: string, headers: Record<string, string> = {}): Promise<RawClient> {
  const client = await RawClient.open(url, { headers })
  onTestFinished(() => client.close())
  return client
}

describe('sessions of one process', () => {
  it('a full one lets idle sessions go first, and turns nobody away who is there', async () => {
    const { url } = await serveApp((await app()).app, 'memory:', { maxSessions: 3 })
    const first = await openAt(url)
    const others: RawClient[] = []
    for (let i = 0; i < 6; i += 1) others.push(await openAt(url))
    for (const client of [first, ...others]) expect(await client.tool('echo', { text: 'here' })).toBe('here')
  })

  it('a full one in which all are in use says 503, and each of them goes on', async () => {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const elsewhere = await serveApp((await app()).app, store)
    const homeless = await openAt(elsewhere.url)
    await elsewhere.leave()
    const { url, log } = await serveApp((await app()).app, store, { maxSessions: 2 })
    const busy = await openAt(url)
    const running = await busy.stream(busy.toolCall('slow', { tag: 'busy', steps: 1000, ms: 5 }))
    const listening = await openAt(url)
    const stream = await listening.listen()
    const late = new RawClient(url)
    const refused = await late.post(late.initialize())
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    await refused.text()
    const moved = homeless.clone(url)
    onTestFinished(() => moved.close())
    const before = await store.sessions.get(moved.session!)
    expect(await statusOf(moved.post(moved.request('tools/list')))).toBe(503)
    expect(await store.sessions.get(moved.session!)).toEqual(before)
    expect([running.state, stream.state]).toEqual(['open', 'open'])
    expect(log.lines.filter(({ message }) => message.includes('full')).length).toBeGreaterThan(0)
    listening.close()
    await until('room', async () => (await statusOf(moved.post(moved.request('tools/list')))) === 200)
    expect(await busy.tool('echo', { text: 'here' })).toBe('here')
  })
})

describe.each([...backends, 'memory' as const])('sessions of one principal, in %s', (backend) => {
  it('so many at all nodes together; one more is 429, and none of those that live is lost', async () => {
    const space =
      backend === 'memory' ? { url: 'memory:', remove: async () => {} } : await storeSpace(backend)
    onTestFinished(() => space.remove())
    const shared = openStore(space.url)
    onTestFinished(() => shared.close())
    const other = backend === 'memory' ? shared : openStore(space.url)
    onTestFinished(() => other.close())
    const options = {
      maxSessionsPerPrincipal: 3,
      principal: ({ headers }: { headers: Headers }) => headers.get('x-user'),
    }
    const nodes = [
      await serveApp((await app()).app, shared, options),
      await serveApp((await app()).app, other, options),
    ]
    const alices: RawClient[] = []
    for (let i = 0; i < 3; i += 1) alices.push(await openAt(nodes[i % 2]!.url, { 'x-user': 'alice' }))
    for (const { url } of nodes) {
      const late = new RawClient(url, { 'x-user': 'alice' })
      const refused = await late.post(late.initialize())
      expect(refused.status).toBe(429)
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(await refused.text()).not.toMatch(/alice|maxSessions/)
      for (let i = 0; i < 4; i += 1) await openAt(url)
      await openAt(url, { 'x-user': 'bob' })
    }
    for (const alice of alices) expect(await alice.tool('counter')).toBe('1')
    expect(await statusOf(alices[0]!.delete())).toBe(200)
    await openAt(nodes[1]!.url, { 'x-user': 'alice' })
  }, 60_000)
})

describe('one session', () => {
  it('runs so many requests at once: one more is 429, and room is made by an answer', async () => {
    const { url } = await serveApp((await app()).app, 'memory:', { maxCalls: 2 })
    const client = await openAt(url)
    const call = (tag: string, steps: number) =>
      client.stream(client.toolCall('slow', { tag, steps, ms: 10 }))
    const [one, two] = [await call('one', 20), await call('two', 1000)]
    const refused = await client.post(client.request('tools/list'))
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
    await refused.text()
    await one.over()
    expect(await client.tool('echo', { text: 'room' })).toBe('room')
    expect(two.state).toBe('open')
  })

  it('has one request of one id at a time: a second is 400, and the first is answered', async () => {
    const { url } = await serveApp((await app()).app, 'memory:')
    const client = await openAt(url)
    const message = client.toolCall('slow', { tag: 'twice', steps: 20, ms: 10 })
    const running = await client.stream(message)
    for (const body of [message, { ...message, params: { name: 'counter', arguments: {} } }]) {
      const refused = await client.post(body)
      expect([refused.status, JSON.parse(await refused.text()).error.code]).toEqual([400, -32600])
    }
    // JSON-RPC tells 7 from "7".
    const other = await client.call({ ...client.toolCall('echo', { text: 'text' }), id: String(message.id) })
    expect(other.error).toBeUndefined()
    await running.next('the answer', ({ result }) => result !== undefined)
    expect(
      (await client.call({ ...message, params: { name: 'counter', arguments: {} } })).result,
    ).toBeDefined()
  })

  it('subscribes to so many resources, and no record grows beyond that', async () => {
    const { url, handler } = await serveApp((await app()).app, 'memory:', { maxSubscriptions: 3 })
    const client = await openAt(url)
    const subscribe = (uri: string) => statusOf(client.post(client.request('resources/subscribe', { uri })))
    for (const n of [1, 2, 3]) expect(await subscribe(`${resourceUri}${n}`)).toBe(200)
    expect(await subscribe(`${resourceUri}4`)).toBe(429)
    expect(await subscribe(`${resourceUri}3`), 'one that is there').toBe(200)
    expect(
      await statusOf(client.post(client.request('resources/unsubscribe', { uri: `${resourceUri}1` }))),
    ).toBe(200)
    expect(await subscribe(`${resourceUri}4`)).toBe(200)
    const record = await handler.store.sessions.get(client.session!)
    expect(record?.state.subscriptions).toEqual([2, 3, 4].map((n) => `${resourceUri}${n}`))
  })

  it('subscribes to 256 KiB of resources', async () => {
    const { url, handler } = await serveApp((await app()).app, 'memory:')
    const client = await openAt(url)
    const statuses: number[] = []
    for (let n = 0; n < 6; n += 1) {
      const uri = `test://${n}${'x'.repeat(60_000)}`
      statuses.push(await statusOf(client.post(client.request('resources/subscribe', { uri }))))
    }
    expect(statuses).toEqual([200, 200, 200, 200, 429, 429])
    const record = await handler.store.sessions.get(client.session!)
    expect(JSON.stringify(record?.state).length).toBeLessThan(256 * 1024 + 2000)
  })
})

describe.each([{ json: false }, { json: true }])('a call whose client has gone for good, %j', ({ json }) => {
  it('is given up after a ttl, and keeps neither the session nor a drain', async () => {
    const { app: built, journal } = await app({ json })
    const { url, handler, log } = await serveApp(built, 'memory:', { ttl: 0.8 })
    const client = await openAt(url)
    const asked = client.toolCall('sample', { prompt: 'nobody answers' })
    const abort = new AbortController()
    const sent = fetch(url, {
      method: 'POST',
      signal: abort.signal,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': client.session!,
      },
      body: JSON.stringify(asked),
    }).catch(() => {})
    await until('the tool to run', () => journal.entries().some(({ what }) => what === 'sampling'))
    abort.abort()
    await sent
    await until(
      'the end of the session',
      async () => !(await handler.store.sessions.get(client.session!)),
      10_000,
    )
    await until('the end of the call', () =>
      log.lines.some(({ message }) => message.includes('a call was given up')),
    )
    const started = performance.now()
    await handler.close({ deadline: 5000 })
    expect(performance.now() - started).toBeLessThan(4000)
  }, 30_000)

  it('that is followed is not given up, however long it takes', async () => {
    const { url } = await serveApp((await app({ json })).app, 'memory:', { ttl: 0.5 })
    const client = await openAt(url)
    expect(await client.tool('slow', { tag: 'long', steps: 20, ms: 100 })).toBe('long done after 20')
  }, 30_000)
})

describe('a call that is cancelled before the app has begun to answer', () => {
  it.each(['at the owner', 'at another node'])('ends once and in peace, %s', async (where) => {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const owner = await serveApp((await app({ json: true })).app, store)
    const edge = await serveApp((await app({ json: true })).app, store)
    const client = await openAt(owner.url)
    const asking = client.clone((where === 'at the owner' ? owner : edge).url)
    const call = asking.toolCall('slow', { tag: 'cancelled', steps: 1000, ms: 10 })
    const answer = asking.post(call)
    await new Promise((resolve) => setTimeout(resolve, 300))
    const params = { requestId: call.id }
    await client.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
    const response = await answer
    expect([response.status, await response.text()]).toEqual([202, ''])
    expect(await client.tool('echo', { text: 'on' })).toBe('on')
    const { events } = await store.log.read({ sessionId: client.session!, after: 0, limit: 100 })
    const streams = new Map<string, number>()
    for (const { streamId, kind } of events)
      if (kind === 'end' || kind === 'final') streams.set(streamId, (streams.get(streamId) ?? 0) + 1)
    expect(
      [...streams.values()].every((ends) => ends === 1),
      JSON.stringify(events),
    ).toBe(true)
    expect([...owner.log.lines, ...edge.log.lines].filter(({ level }) => level === 'error')).toEqual([])
  })
})
