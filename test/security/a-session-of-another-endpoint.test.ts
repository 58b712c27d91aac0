import type { RequestListener } from 'node:http'
import express, { type RequestHandler } from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, type PersistOptions, withPersistence } from '../../src/index.ts'
import { buildServerV1 } from '../support/apps/server-v1.ts'
import { nodeSessions, webSessions } from '../support/apps/sessions.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listen, listening } from '../support/net/listen.ts'

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
