import express from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { WrappableApp } from '../../src/index.ts'
import { openStore } from '../../src/store/open-store.ts'
import { backends, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { house, serveApp } from './support.ts'

/** All the ways in which an app may not open a session. */
const refusals: Record<string, (req: express.Request, res: express.Response) => void> = {
  400: (_req, res) => void res.status(400).json({ error: 'bad' }),
  401: (_req, res) => void res.status(401).json({ error: 'who?' }),
  403: (_req, res) => void res.status(403).json({ error: 'no' }),
  500: (_req, res) => void res.status(500).end(),
  'a redirection': (_req, res) => res.redirect('/login'),
  'an exception': () => {
    throw new Error('the app is broken')
  },
  'a broken connection': (_req, res) => void res.destroy(),
  'no session': (req, res) =>
    void res.json({ jsonrpc: '2.0', id: req.body.id, result: { protocolVersion: '2025-11-25' } }),
  'a JSON-RPC error': (req, res) =>
    void res
      .set('mcp-session-id', 'refused-session')
      .json({ jsonrpc: '2.0', id: req.body.id, error: { code: -32602, message: 'bad version' } }),
  'a JSON-RPC error on a stream': (req, res) => {
    res.set({ 'mcp-session-id': 'refused-session', 'content-type': 'text/event-stream' })
    res.end(
      `data: ${JSON.stringify({ jsonrpc: '2.0', id: req.body.id, error: { code: -32602, message: 'bad version' } })}\n\n`,
    )
  },
  'half an answer': (_req, res) => {
    res.set({ 'mcp-session-id': 'refused-session', 'content-type': 'application/json' })
    res.write('{"jsonrpc":"2.0","id":1,"res')
    res.end()
  },
}

function refusing(how: string): WrappableApp {
  const app = express()
  app.use(express.json())
  app.post('/mcp', (req, res) => refusals[how]!(req, res))
  return app as unknown as WrappableApp
}

describe.each([...backends, 'memory' as const])('in %s', (backend) => {
  it.each(Object.keys(refusals))('an initialize that meets %s leaves nothing', async (how) => {
    const space =
      backend === 'memory' ? { url: 'memory:', remove: async () => {} } : await storeSpace(backend)
    onTestFinished(() => space.remove())
    const store = openStore(space.url)
    onTestFinished(() => store.close())
    const { url } = await serveApp(refusing(how), store)
    const client = new RawClient(url, { authorization: 'Bearer somebody' })
    for (let i = 0; i < 5; i += 1) {
      const response = await client.post(client.initialize())
      await response.text().catch(() => {})
    }
    const { sessions, events, nodes } = await store.stats()
    expect([sessions, events, nodes]).toEqual([0, 0, 0])
    expect((await store.sessions.list()).sessions).toEqual([])
  })
})

// Ten thousand once, by the way that costs least; what the others do differently shows in fewer.
it.each([
  ['hono', 10_000],
  ['express', 200],
  ['fastify', 200],
  ['url', 200],
] as const)(
  'by %s: %i that are refused cost nothing, and leave room for everybody (CVE-2026-59951)',
  async (front, count) => {
    const home = house(front, { users: { 'alice-1': 'alice' } }, { maxSessions: 3 })
    const node = await home.node()
    const refused = new RawClient(node.url, { authorization: 'Bearer mallory' })
    const statuses = new Map<number, number>()
    const headers = { ...refused.headers, 'content-type': 'application/json', accept: '*/*' }
    const withoutNetwork = (body: string) =>
      node.handler.fetch(new Request(node.url, { method: 'POST', headers, body }))
    const post = front === 'hono' ? withoutNetwork : (body: string) => refused.post(body)
    const one = async () => {
      const response = await post(JSON.stringify(refused.initialize()))
      await response.text()
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
    }
    // Two at a time, so that none of them meets a full process.
    for (let i = 0; i < count; i += 2) await Promise.all([one(), one()])
    expect([...statuses]).toEqual([[401, count]])
    expect(await home.store.stats()).toMatchObject({ sessions: 0, events: 0, nodes: 0 })
    const alice = await home.open(node, 'alice-1')
    expect(await alice.tool('counter')).toBe('1')
  },
  120_000,
)
