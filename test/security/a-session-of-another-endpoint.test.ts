import type { RequestListener } from 'node:http'
import express, { type RequestHandler } from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, type PersistOptions, withPersistence } from '../../src/index.ts'
import { buildServerV1 } from '../support/apps/server-v1.ts'
import { nodeSessions, webSessions } from '../support/apps/sessions.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listen, listening } from '../support/net/listen.ts'
import { get, rawRequest } from '../support/net/raw-request.ts'
import { generator } from '../support/random.ts'

/* Two tenants at one server: whoever brings a session of one to the other hears what he would of an unknown one. */

type App = Parameters<typeof withPersistence>[0]

/** One map of sessions for all tenants: the app alone would serve a session at whichever. */
const APPS: Record<string, () => App> = {
  express: () => {
    const sessions = nodeSessions('v1', { journal: memoryJournal() })
    const app = express()
    for (const path of ['/:tenant/mcp', '/mcp']) app.all(path, (req, res) => sessions(req, res))
    return app
  },
  fetch: () => {
    const sessions = webSessions('v1', { journal: memoryJournal() })
    return { fetch: (request: Request) => sessions(request) }
  },
  factory: () => () => buildServerV1(memoryJournal()),
}

async function serve(app: App, store: MemoryEventStore, options: PersistOptions) {
  const handler = withPersistence(app, store, options)
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  const end = async () => {
    await handler.close({ deadline: 0 })
    await close()
  }
  onTestFinished(end)
  return { origin, handler, end }
}

async function saidOf(response: Response): Promise<{ status: number; body: string; type: string | null }> {
  const { status, headers } = response
  return { status, body: await response.text(), type: headers.get('content-type') }
}

/** Everything that can be done with a session, tried at `url`: the same answers as for an id that nobody has. */
async function expectUnknown(client: RawClient, url: string): Promise<void> {
  const there = client.clone(url)
  const unknown = client.clone(url)
  unknown.session = '00000000-0000-4000-8000-000000000000'
  const ways: ((from: RawClient) => Promise<Response>)[] = [
    (from) => from.post({ jsonrpc: '2.0', id: 'same', method: 'tools/list', params: {} }),
    (from) => from.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }),
    (from) => from.post({ jsonrpc: '2.0', id: 0, result: {} }),
    (from) => from.get(),
    (from) => from.get({ 'last-event-id': '0.x.1' }),
    (from) => from.delete(),
  ]
  for (const way of ways) {
    const [his, nobodys] = [await saidOf(await way(there)), await saidOf(await way(unknown))]
    expect(his.status).toBe(404)
    expect(his).toEqual(nobodys)
  }
}

const options = { path: ['/:tenant/mcp', '/mcp'] }

describe.each(Object.keys(APPS))('%s', (name) => {
  it('a session is known at its own endpoint and at no other, at any node, live or not', async () => {
    const store = new MemoryEventStore()
    const one = await serve(APPS[name]!(), store, options)
    const two = await serve(APPS[name]!(), store, options)
    const client = await RawClient.open(`${one.origin}/acme/mcp`)
    onTestFinished(() => client.close())
    expect(await client.tool('counter')).toBe('1')
    for (const { origin } of [one, two]) {
      for (const path of ['/other/mcp', '/Acme/mcp', '/%61cme/mcp', '/acme%20/mcp', '/mcp'])
        await expectUnknown(client, `${origin}${path}`)
    }
    const away = client.clone(`${two.origin}/acme/mcp`)
    expect(await away.tool('counter')).toBe('2')
    expect(await store.sessions.get(client.session!)).toMatchObject({ state: { endpoint: '/acme/mcp' } })
    await one.end()
    await expectUnknown(client, `${two.origin}/other/mcp`)
    expect(await away.tool('counter')).toBe('1')
    await expectUnknown(client, `${two.origin}/other/mcp`)
    expect((await away.delete()).status).toBeLessThan(300)
  })

  it('a slash more, or another case of what is no parameter, is the same endpoint', async () => {
    const { origin } = await serve(APPS[name]!(), new MemoryEventStore(), options)
    const client = await RawClient.open(`${origin}/acme/mcp/`)
    expect(await client.tool('counter')).toBe('1')
    expect(await client.clone(`${origin}/acme/mcp`).tool('counter')).toBe('2')
  })
})

/** Milliseconds after which a connection without a word is over: some stay open, whoever sent what. */
const SILENT = 300

/** Ways to write a segment, some of which undo or hide another. */
const SEGMENTS = (
  'acme ACME other %61cme acme%2f %2facme acme;x acme%3bx acme%00 acme%20 acme%5c acme%23 acme%3f .. . %2e%2e %2e ..%2f ' +
  '%2f..%2facme x%2f..%2facme acme%2fmcp mcp MCP %6dcp mcp;x mcp%2f %256dcp x \\ ..\\'
)
  .split(' ')
  .concat('')

describe.each(['express', 'fetch'])('%s: whatever the spelling', (name) => {
  it.each([1, 2])(
    'no session reaches the app as another tenant than the one that opened it (seed %i)',
    async (seed) => {
      const random = generator(seed)
      const any = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)]!
      const likely = () => (random() < 0.5 ? any(['acme', 'other', 'mcp']) : any(SEGMENTS))
      const path = () => {
        if (random() < 0.6) return `/${any(SEGMENTS)}/${any(['mcp', 'mcp', 'MCP', '%6dcp', 'mcp/'])}`
        const segments = Array.from({ length: 2 + Math.floor(random() * 3) }, likely)
        return `/${segments.join('/')}${any(['', '', '/mcp', '/', '?x=/acme/mcp'])}`
      }
      /** The tenants as which the app was asked for a session. */
      const tenants = new Map<string, Set<string>>()
      const seen = (id: string | null | undefined, tenant: string) => {
        if (id) tenants.set(id, (tenants.get(id) ?? new Set()).add(tenant))
      }
      const store = new MemoryEventStore()
      const { origin } = await serve(watched(name, seen), store, { path: '/:tenant/mcp' })
      const ids: string[] = []
      const ask = async (target: string, message: object, id?: string) => {
        const body = JSON.stringify(message)
        const headers = [
          'host: localhost',
          'content-type: application/json',
          'accept: application/json, text/event-stream',
          `content-length: ${Buffer.byteLength(body)}`,
          ...(id === undefined ? [] : [`mcp-session-id: ${id}`]),
        ]
        return rawRequest(origin, Buffer.concat([get(target, headers, 'POST'), Buffer.from(body)]), SILENT)
      }
      const { initialize, request } = RawClient.prototype
      const client = new RawClient(origin)
      let served = 0
      for (let turn = 0; turn < 40; turn += 1) {
        const target = turn % 3 === 0 ? '/acme/mcp' : path()
        const opened = await ask(target, initialize.call(client))
        const id = /^mcp-session-id: (\S+)/im.exec(opened)?.[1]
        if (id && (await store.sessions.get(id))) ids.push(id)
      }
      for (let turn = 0; turn < 150; turn += 1) {
        const answer = await ask(
          turn % 4 === 0 ? '/acme/mcp' : path(),
          request.call(client, 'tools/list'),
          any(ids),
        )
        if (answer.startsWith('HTTP/1.1 200')) served += 1
      }
      expect(ids.length).toBeGreaterThan(10)
      expect(served).toBeGreaterThan(10)
      for (const id of ids) expect([...(tenants.get(id) ?? [])].length, id).toBeLessThanOrEqual(1)
    },
    60_000,
  )
})

/** An app that says as which tenant it was asked for each session; one that it opens counts as asked for. */
function watched(name: string, seen: (id: string | null | undefined, tenant: string) => void): App {
  if (name === 'express') {
    const sessions = nodeSessions('v1', { journal: memoryJournal() })
    const app = express()
    app.all('/:tenant/mcp', async (req, res) => {
      seen(req.get('mcp-session-id'), req.params.tenant)
      await sessions(req, res)
      seen(String(res.getHeader('mcp-session-id') ?? ''), req.params.tenant)
    })
    return app
  }
  const sessions = webSessions('v1', { journal: memoryJournal() })
  return {
    fetch: async (request: Request) => {
      const [, tenant = '', endpoint, ...more] = new URL(request.url).pathname.split('/')
      if (endpoint !== 'mcp' || more.join('') !== '') return new Response(null, { status: 404 })
      seen(request.headers.get('mcp-session-id'), tenant)
      const response = await sessions(request)
      seen(response.headers.get('mcp-session-id'), tenant)
      return response
    },
  }
}

it('two handlers on one store: a session of one path is unknown at the other', async () => {
  const store = new MemoryEventStore()
  const a = await serve(APPS['express']!(), store, { path: '/a/mcp' })
  const b = await serve(APPS['express']!(), store, { path: '/b/mcp' })
  const client = await RawClient.open(`${a.origin}/a/mcp`)
  await expectUnknown(client, `${b.origin}/b/mcp`)
  expect(await client.tool('counter')).toBe('1')
})

it.each(['express', 'factory'])('%s mounted for each tenant by a router in front', async (name) => {
  const handler = withPersistence(APPS[name]!(), new MemoryEventStore(), { path: '/mcp' })
  onTestFinished(() => handler.close({ deadline: 0 }))
  const outer = express().use('/:tenant', handler as RequestHandler)
  const { origin, close } = await listen(outer as RequestListener)
  onTestFinished(close)
  const client = await RawClient.open(`${origin}/acme/mcp`)
  expect(await client.tool('counter')).toBe('1')
  await expectUnknown(client, `${origin}/other/mcp`)
  expect(await client.tool('counter')).toBe('2')
})

it('a session whose record does not name an endpoint, of an older release, is known at all', async () => {
  const store = new MemoryEventStore()
  const create = store.sessions.create.bind(store.sessions)
  store.sessions.create = ({ state: { endpoint: _, ...state }, ...session }) => create({ ...session, state })
  const one = await serve(APPS['factory']!(), store, options)
  const client = await RawClient.open(`${one.origin}/acme/mcp`)
  expect(await store.sessions.get(client.session!)).not.toHaveProperty('state.endpoint')
  const two = await serve(APPS['factory']!(), store, options)
  await one.end()
  expect(await client.clone(`${two.origin}/other/mcp`).tool('counter')).toBe('1')
})
