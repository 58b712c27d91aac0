import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import express from 'express'
import fastify from 'fastify'
import Koa from 'koa'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, type WrappableApp } from '../../src/index.ts'
import { webSessions } from '../support/apps/sessions.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { until, within } from '../support/wait.ts'
import { serveApp, statusOf } from './support.ts'

type Web = (request: Request) => Promise<Response>

async function toWeb(req: IncomingMessage, body?: unknown): Promise<Request> {
  const chunks: Uint8Array[] = []
  if (body === undefined) for await (const chunk of req) chunks.push(chunk as Uint8Array)
  const text = body === undefined ? Buffer.concat(chunks).toString() : JSON.stringify(body)
  const bodiless = req.method === 'GET' || req.method === 'DELETE'
  return new Request(`http://localhost${req.url}`, {
    method: req.method ?? 'GET',
    headers: Object.entries(req.headers) as [string, string][],
    ...(!bodiless && { body: text }),
  })
}

function bodyOf(response: Response): Readable {
  return response.body ? Readable.fromWeb(response.body as ReadableStream) : Readable.from([])
}

/** Servers that send the head of a streamed answer together with its first event. */
const late: Record<string, (web: Web) => Promise<WrappableApp>> = {
  'fastify, reply.send(Readable)': async (web) => {
    const app = fastify()
    app.all('/mcp', async (request, reply) => {
      const response = await web(await toWeb(request.raw, request.body))
      return reply.code(response.status).headers(Object.fromEntries(response.headers)).send(bodyOf(response))
    })
    return app as unknown as WrappableApp
  },
  'fastify, a web Response': async (web) => {
    const app = fastify()
    app.all('/mcp', async (request) => web(await toWeb(request.raw, request.body)))
    return app as unknown as WrappableApp
  },
  'koa, body = Readable': async (web) => {
    const app = new Koa()
    app.silent = true
    app.use(async (ctx) => {
      const response = await web(await toWeb(ctx.req))
      ctx.status = response.status
      ctx.set(Object.fromEntries(response.headers))
      ctx.body = bodyOf(response)
    })
    return app as unknown as WrappableApp
  },
  'node, stream.pipe(res)': async (web) => {
    return (async (req: IncomingMessage, res: ServerResponse) => {
      const response = await web(await toWeb(req))
      res.writeHead(response.status, Object.fromEntries(response.headers))
      bodyOf(response).pipe(res)
    }) as unknown as WrappableApp
  },
  'the same in another process': async (web) => {
    const server = createServer(async (req, res) => {
      const response = await web(await toWeb(req))
      res.writeHead(response.status, Object.fromEntries(response.headers))
      bodyOf(response).pipe(res)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  },
}

describe.each(Object.entries(late))('%s', (_name, build) => {
  it('a session opens at once, hears what is said outside of calls, and comes to life elsewhere', async () => {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const node = async () => {
      const sessions = webSessions('v1', { journal: memoryJournal() })
      return serveApp(await build((request) => sessions(request)), store)
    }
    const first = await node()
    const client = await within('opening', RawClient.open(first.url), 5000)
    onTestFinished(() => client.close())
    expect(await client.tool('counter')).toBe('1')
    const listening = await client.listen()
    for (const n of [1, 2]) await client.tool('burst', { tag: `t${n}`, count: 1, via: 'standalone' })
    await until('both', () => listening.logs.length === 2)
    expect(listening.logs).toEqual(['t1:1', 't2:1'])
    await first.leave()
    const moved = client.clone((await node()).url)
    onTestFinished(() => moved.close())
    expect(await within('the takeover', moved.tool('counter'), 5000)).toBe('1')
    const again = await moved.listen()
    await moved.tool('burst', { tag: 't3', count: 1, via: 'standalone' })
    await until('the third', () => again.logs.includes('t3:1'))
  }, 60_000)
})

/** An Express app whose answers a test can hold up or refuse, by what is asked. */
function held() {
  const journal = memoryJournal()
  const sessions = webSessions('v1', { journal })
  const rules: ((req: express.Request, res: express.Response) => boolean)[] = []
  const app = express()
  app.use(express.json())
  app.all('/mcp', async (req, res) => {
    if (rules.some((rule) => rule(req, res))) return
    const response = await sessions(await toWeb(req, req.body))
    res.writeHead(response.status, Object.fromEntries(response.headers))
    res.flushHeaders()
    bodyOf(response).pipe(res)
  })
  return { app: app as unknown as WrappableApp, rules, journal }
}

describe('the standalone stream', () => {
  it.each([
    ['503', (res: express.Response) => void res.status(503).end()],
    ['429', (res: express.Response) => void res.status(429).end()],
    ['a broken connection', (res: express.Response) => void res.destroy()],
  ])('is opened again after %s, and it is said once', async (_name, refuse) => {
    const { app, rules } = held()
    let refused = 0
    rules.push((req, res) => {
      if (req.method !== 'GET' || refused >= 3) return false
      refused += 1
      refuse(res)
      return true
    })
    const { url, log } = await serveApp(app, 'memory:')
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const listening = await client.listen()
    await until('the refusals to be over', () => refused === 3)
    for (let n = 1; n < 50 && listening.logs.length === 0; n += 1) {
      await client.tool('burst', { tag: 'heard', count: 1, via: 'standalone' })
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    expect(listening.logs[0]).toBe('heard:1')
    expect(
      log.lines.filter(({ level, message }) => level === 'warn' && message.includes('standalone')),
    ).toHaveLength(1)
  })

  it.each([405, 404, 501])('is not asked for again after %i', async (status) => {
    const { app, rules } = held()
    let asked = 0
    rules.push((req, res) => {
      if (req.method !== 'GET') return false
      asked += 1
      res.status(status).end()
      return true
    })
    const { url, log } = await serveApp(app, 'memory:')
    const client = await RawClient.open(url)
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(asked).toBe(1)
    expect(
      log.lines.filter(({ message }) => message.includes('no standalone stream')).map(({ level }) => level),
    ).toEqual([status === 405 ? 'debug' : 'warn'])
    expect(await client.tool('counter')).toBe('1')
  })
})

describe('an app that hangs', () => {
  async function moved() {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const first = held()
    const owner = await serveApp(first.app, store)
    const client = await RawClient.open(owner.url)
    await client.post(client.request('resources/subscribe', { uri: 'test://greeting' }))
    await owner.leave()
    const second = held()
    const next = await serveApp(second.app, store, { lease: 0.5 })
    const other = client.clone(next.url)
    onTestFinished(() => other.close())
    return { store, other, rules: second.rules }
  }

  it.each([
    ['initialize', 'initialize'],
    ['initialized', 'notifications/initialized'],
    ['a subscription', 'resources/subscribe'],
  ])(
    'in %s of a takeover: 503 in bounded time, and the session is to be had',
    async (_name, method) => {
      const { store, other, rules } = await moved()
      let hung = 0
      const rule = (req: express.Request) => {
        if (req.body?.method !== method) return false
        hung += 1
        return true
      }
      rules.push(rule)
      const before = await store.sessions.get(other.session!)
      const answers = [1, 2].map(() => within('the answer', other.post(other.request('tools/list')), 8000))
      for (const answer of await Promise.all(answers)) {
        expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1'])
        await answer.text()
      }
      expect(hung).toBeGreaterThan(0)
      const record = await store.sessions.get(other.session!)
      expect([record?.owner, record?.state]).toEqual([null, before?.state])
      rules.splice(0)
      expect(await other.tool('counter')).toBe('1')
    },
    30_000,
  )

  it('in a ping: 503, and the session goes on', async () => {
    const { app, rules } = held()
    const { url } = await serveApp(app, 'memory:', { lease: 0.5 })
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    rules.push((req) => req.body?.method === 'ping')
    expect(await within('the answer', statusOf(client.get()), 8000)).toBe(503)
    rules.splice(0)
    expect(await client.tool('counter')).toBe('1')
    await client.listen()
  }, 30_000)
})
