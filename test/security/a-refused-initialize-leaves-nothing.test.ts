import express from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { WrappableApp } from '../../src/index.ts'
import { openStore } from '../../src/store/open-store.ts'
import { guardedApp } from '../support/apps/guarded.ts'
import { backends, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { serveApp } from './support.ts'

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

it('ten thousand that are refused cost nothing, and leave room for everybody (CVE-2026-59951)', async () => {
  const journal = memoryJournal()
  const { app } = guardedApp('hono', { journal, users: new Map([['alice-1', 'alice']]) })
  const { url, handler } = await serveApp(app, 'memory:', { maxSessions: 3 })
  const refused = new RawClient(url, { authorization: 'Bearer mallory' })
  const headers = {
    ...refused.headers,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
  }
  const statuses = new Map<number, number>()
  // Without a network between, which would cost ten times as much.
  const one = async () => {
    const body = JSON.stringify(refused.initialize())
    const response = await handler.fetch(new Request(url, { method: 'POST', headers, body }))
    await response.text()
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
  }
  // Two at a time, so that none of them meets a full process.
  for (let i = 0; i < 5000; i += 1) await Promise.all([one(), one()])
  expect([...statuses]).toEqual([[401, 10_000]])
  expect(await handler.store.stats()).toMatchObject({ sessions: 0, events: 0, nodes: 0 })
  const alice = await RawClient.open(url, { headers: { authorization: 'Bearer alice-1' } })
  expect(await alice.tool('counter')).toBe('1')
}, 120_000)
