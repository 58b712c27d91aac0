import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, persistentSessionId, type Store, type WrappableApp } from '../../src/index.ts'
import { buildTaskServer } from '../support/apps/task-server.ts'
import { type Message, RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listen } from '../support/net/listen.ts'
import { serveApp } from './support.ts'

/** An app whose tools are tasks, and which lets everybody in. */
function tasksOver(store: Store): (request: Request) => Promise<Response> {
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>()
  return async (request) => {
    const id = request.headers.get('mcp-session-id')
    const known = sessions.get(id ?? '')
    if (known) return known.handleRequest(request)
    if (id !== null) return new Response(null, { status: 404 })
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: persistentSessionId,
      onsessioninitialized: (opened) => void sessions.set(opened, transport),
    })
    await buildTaskServer(store, memoryJournal()).connect(transport)
    return transport.handleRequest(request)
  }
}

type Serve = (handle: (request: Request) => Promise<Response>) => WrappableApp | Promise<WrappableApp>
type Listener = (req: IncomingMessage, res: ServerResponse) => unknown

const FRONTS: Readonly<Record<string, Serve>> = {
  express: (handle) => express().all('/mcp', getRequestListener(handle) as Listener) as never,
  fastify: (handle) => {
    const app = fastify()
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, _body, done) => done(null))
    const listener = getRequestListener(handle)
    app.all('/mcp', async (request, reply) => {
      reply.hijack()
      await listener(request.raw, reply.raw)
    })
    return app as never
  },
  hono: (handle) => new Hono().all('/mcp', (c) => handle(c.req.raw)) as never,
  url: async (handle) => {
    const { origin, close } = await listen(getRequestListener(handle))
    onTestFinished(close)
    return { url: origin }
  },
}

it.each(Object.keys(FRONTS))(
  'a task is neither seen, had nor ended from another session, whatever the node (CVE-2026-52870, %s)',
  async (front) => {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const node = async () => serveApp(await FRONTS[front]!(tasksOver(store)), store)
    const owner = await node()
    const other = await node()
    const open = async (user: string) => {
      const client = await RawClient.open(owner.url, { headers: { authorization: `Bearer ${user}` } })
      onTestFinished(() => client.close())
      return client
    }
    const [alice, bob] = [await open('alice'), await open('bob')]
    const params = { name: 'work', arguments: { tag: 'hers', ms: 60_000 }, task: { ttl: 60_000 } }
    const begun = await alice.call(alice.request('tools/call', params))
    const { taskId } = (begun.result as { task: { taskId: string } }).task

    const meet = async (url: string, { isKnown = true } = {}) => {
      const stranger = bob.clone(url)
      const say = (method: string, more: Record<string, unknown> = {}): Promise<Message> =>
        stranger.call(stranger.request(method, more))
      for (const method of ['tasks/get', 'tasks/result', 'tasks/cancel'])
        expect((await say(method, { taskId })).error, method).toBeDefined()
      expect((await say('tasks/list')).result).toMatchObject({ tasks: [] })
      if (!isKnown) return
      const hers = alice.clone(url)
      const { result } = await hers.call(hers.request('tasks/get', { taskId }))
      expect(result).toMatchObject({ taskId, status: 'working' })
    }
    await meet(owner.url)
    await meet(other.url)
    await owner.leave()
    // An app in a process of its own has another id for a session that was taken over, and knows its tasks by the first.
    await meet(other.url, { isKnown: front !== 'url' })
  },
)
