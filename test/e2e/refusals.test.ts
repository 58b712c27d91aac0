import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express, { type RequestHandler } from 'express'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, openStore, PersistError, type Store, withPersistence } from '../../src/index.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { corsHeaders } from '../support/apps/auth.ts'
import { keptLogger, serveFront, wrap } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listen, listening } from '../support/net/listen.ts'
import { until, within } from '../support/wait.ts'

const allowed = corsHeaders['access-control-allow-origin']
const fromPage = { origin: allowed }

/** A store whose sessions fail with what `error` says at the moment. */
function failing(error: () => Error | undefined): Store {
  const store = new MemoryEventStore()
  const sessions = new Proxy(store.sessions, {
    get: (target, key) => {
      const value = Reflect.get(target, key)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        const wrong = error()
        return wrong ? Promise.reject(wrong) : Reflect.apply(value, target, args)
      }
    },
  })
  return new Proxy(store, {
    get: (target, key) => {
      if (key === 'sessions') return sessions
      const value = Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe.each(['express5', 'hono', 'url'] as const)('%s: a page can read why it was refused', (front) => {
  it('404, 406, 400, 413, 415 and 503', async () => {
    let away = false
    const store = failing(() => (away ? new PersistError('STORE_UNAVAILABLE', 'away') : undefined))
    const options = { maxBodyBytes: 5000 }
    const { url } = await serveFront(front, { app: { cors: true }, options, store })
    const client = await RawClient.open(url, { headers: fromPage })
    const expectRefused = async (sent: Promise<Response>, status: number) => {
      const response = await sent
      await response.text()
      expect(response.status).toBe(status)
      expect(response.headers.get('access-control-allow-origin'), String(status)).toBe(allowed)
    }
    const list = client.request('tools/list')
    await expectRefused(client.post(list, { 'mcp-session-id': 'unknown' }), 404)
    await expectRefused(client.get({ accept: 'application/json' }), 406)
    await expectRefused(client.get({ 'last-event-id': 'nonsense' }), 400)
    await expectRefused(client.post('x'.repeat(6000)), 413)
    await expectRefused(client.post(list, { 'content-encoding': 'zstd' }), 415)
    const elsewhere = { headers: { ...fromPage, 'mcp-session-id': client.session! } }
    await expectRefused(fetch(url.replace('/mcp', '/hello'), elsewhere), 404)
    away = true
    await expectRefused(client.post(list, { 'mcp-session-id': 'unknown' }), 503)
    const opening = { 'mcp-session-id': undefined }
    await expectRefused(client.post(client.initialize(), opening), 503)
    away = false
  })
})

it('nothing of the inside leaves: a failure has a number, which stands in the log beside its reason', async () => {
  const { lines, logger } = keptLogger()
  const secret = 'connect ECONNREFUSED 10.1.2.3:5432 as user admin at /var/lib/secret.db: SELECT *'
  let wrong: Error | undefined
  const store = failing(() => wrong)
  const { url } = await serveFront('express5', { app: { cors: true }, options: { logger }, store })
  const client = await RawClient.open(url, { headers: fromPage })
  for (wrong of [
    new PersistError('STORE_CORRUPT', secret),
    new Error(secret),
    new PersistError('NOT_MIGRATED', secret),
  ]) {
    const response = await client.post(client.request('tools/list'), { 'mcp-session-id': 'unknown' })
    const text = await response.text()
    expect(response.status).toBe(500)
    expect(response.headers.get('access-control-allow-origin')).toBe(allowed)
    expect(text).not.toMatch(/ECONN|10\.1|admin|secret|SELECT|at \//)
    const { error } = JSON.parse(text) as { error: { message: string; data: { requestId: string } } }
    expect(error.message).toBe('Internal server error')
    expect(lines).toContainEqual({
      level: 'error',
      message: 'a request failed',
      facts: expect.objectContaining({ requestId: error.data.requestId, error: secret }),
    })
  }
  wrong = undefined
})

it('an app that breaks off in the middle of a call says why to the log alone', async () => {
  const { lines, logger } = keptLogger()
  const shape = appShape('hono')
  const { app } = await shape.build({ journal: memoryJournal() })
  const inner = app as { fetch(request: Request): Promise<Response> }
  const breaking = {
    fetch: async (request: Request) => {
      const text = await request.clone().text()
      if (!text.includes('tools/call')) return inner.fetch(request)
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(': begun\n\n'))
          setTimeout(() => controller.error(new Error('secret /var/lib at 10.1.2.3')), 20)
        },
      })
      return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
    },
  }
  const handler = withPersistence(breaking, 'memory:', { logger })
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    await handler.close({ deadline: 0 })
    await close()
  })
  const client = await RawClient.open(`${origin}/mcp`)
  const { error } = await client.call(client.toolCall('counter'))
  expect(JSON.stringify(error)).not.toMatch(/secret|10\.1/)
  const { requestId } = error!.data as { requestId: string }
  expect(lines).toContainEqual(
    expect.objectContaining({
      facts: expect.objectContaining({ requestId, error: 'secret /var/lib at 10.1.2.3' }),
    }),
  )
})

it.each(['express5', 'hono', 'factory'] as const)(
  '%s, mounted and closed: 503 and when to come again',
  async (front) => {
    const handler = await wrap(front, { app: { cors: front !== 'factory' } })
    const { origin, close } = await listen(handler as RequestListener)
    onTestFinished(close)
    const client = await RawClient.open(`${origin}/mcp`, { headers: fromPage })
    await handler.close({ deadline: 1000 })
    const asked = [
      () => client.post(client.request('tools/list')),
      () => client.get(),
      () => client.delete(),
      () => client.post(client.initialize(), { 'mcp-session-id': undefined }),
      () => handler.fetch(new Request(`${origin}/mcp`, { method: 'POST', body: '{}', headers: fromPage })),
    ]
    for (const ask of asked) {
      const response = await ask()
      await response.text()
      expect(response.status).toBe(503)
      expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
      if (front !== 'factory') expect(response.headers.get('access-control-allow-origin')).toBe(allowed)
    }
  },
)

it('a key that stands in a query does not stand in the log', async () => {
  const { lines, logger } = keptLogger()
  const broken = (_req: unknown, _res: unknown) => {
    throw new Error('It breaks.')
  }
  const handler = withPersistence(broken, 'memory:', { logger })
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  const upstream = createServer((req, res) => (req.method === 'OPTIONS' ? res.end() : res.destroy()))
  const behind = await listening(upstream.listen(0, '127.0.0.1'))
  const passing = withPersistence({ url: behind.origin }, 'memory:', { logger })
  const front = await listening(passing.listen(0, '127.0.0.1'))
  onTestFinished(async () => {
    for (const each of [handler, passing]) await each.close({ deadline: 0 })
    for (const each of [close, front.close, behind.close]) await each()
  })
  const read = await listen(
    express()
      .use(express.json())
      .use(handler as RequestHandler) as RequestListener,
  )
  onTestFinished(read.close)
  const query = '?api_key=hers'
  const headers = { 'content-type': 'application/json' }
  for (const to of [`${origin}/mcp`, `${origin}/other`, `${front.origin}/other`, `${read.origin}/other`])
    await fetch(to + query, { method: 'POST', headers, body: '{}' }).catch(() => {})
  await until('the lines', () => lines.length >= 4)
  expect(JSON.stringify(lines)).not.toContain('hers')
})

describe('what is wrong with the store is told at the start', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-start-'))
  const migrated = join(folder, 'migrated.db')
  beforeAll(async () => {
    const store = openStore(`sqlite:${migrated}`)
    await store.ready()
    await store.close()
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  /** What waiting cannot mend, on a backend that needs no server. */
  const wrong: Record<string, () => Store> = {
    NOT_MIGRATED: () => openStore(`sqlite:${join(folder, 'none.db')}`, { autoMigrate: false }),
    STORE_READ_ONLY: () => openStore(`sqlite:${migrated}`, { readonly: true }),
    DRIVER_MISSING: () => readyFails('DRIVER_MISSING'),
    INVALID_ARGUMENT: () => openStore(`sqlite:${join(folder, 'no-such-folder', 'mcp.db')}`),
    SCHEMA_TOO_NEW: () => readyFails('SCHEMA_TOO_NEW'),
    MIGRATION_CHANGED: () => readyFails('MIGRATION_CHANGED'),
  }

  it.each(Object.entries(wrong))(
    '%s: ready() rejects, and listen() fails as of a port that is taken',
    async (code, make) => {
      const { app } = await appShape('factory').build({ journal: memoryJournal() })
      const store = make()
      const handler = withPersistence(app as never, store)
      onTestFinished(async () => {
        await handler.close({ deadline: 0 })
        await store.close()
      })
      await expect(handler.ready()).rejects.toMatchObject({ code })
      let listened = false
      const server = handler.listen(0, '127.0.0.1', () => {
        listened = true
      })
      const [error] = (await within('the error', once(server, 'error'))) as [PersistError]
      expect(error.code).toBe(code)
      expect(listened).toBe(false)
      expect(server.listening).toBe(false)
    },
  )

  it('a store that is away is logged; the server listens, answers 503, and recovers', async () => {
    const { lines, logger } = keptLogger()
    let away = true
    const store = failing(() =>
      away ? new PersistError('STORE_UNAVAILABLE', 'The test store is away.') : undefined,
    )
    const started = new Proxy(store, {
      get: (target, key) =>
        key === 'ready' && away
          ? () => Promise.reject(new PersistError('STORE_UNAVAILABLE', 'The test store is away.'))
          : Reflect.get(target, key),
    })
    const { app } = await appShape('factory').build({ journal: memoryJournal() })
    const handler = withPersistence(app as never, started, { logger })
    await handler.ready()
    const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
    onTestFinished(async () => {
      await handler.close({ deadline: 0 })
      await close()
    })
    expect(lines.filter(({ message }) => message.startsWith('the store is away')).length).toBeGreaterThan(0)
    const client = new RawClient(`${origin}/mcp`)
    const refused = await client.post(client.initialize())
    await refused.text()
    expect(refused.status).toBe(503)
    away = false
    await RawClient.open(`${origin}/mcp`)
  })

  it('a server that is closed before the store was looked at never listens', async () => {
    const handler = await wrap('factory')
    const server = handler.listen(0, '127.0.0.1')
    server.close()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(server.listening).toBe(false)
  })

  function readyFails(code: PersistError['code']): Store {
    const store = new MemoryEventStore()
    return Object.assign(store, { ready: () => Promise.reject(new PersistError(code, `It is ${code}.`)) })
  }
})
