import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { until } from '../support/wait.ts'
import { serveApp, statusOf } from './support.ts'

describe('a client', () => {
  it('may call its requests as it likes, while we ask the app something of our own', async () => {
    const { app } = await appShape('express5').build({ journal: memoryJournal() })
    const { url } = await serveApp(app as never, 'memory:')
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const ids = [1, 2, 3, 4].flatMap((n) => [`ping-${n}`, `restore-${n}`, `tools-${n}`])
    const calls = ids.map((id) =>
      client.stream({ ...client.toolCall('slow', { tag: id, steps: 100, ms: 20 }), id }),
    )
    const streams = await Promise.all(calls)
    for (let n = 0; n < 5; n += 1) (await client.listen()).close()
    for (const [i, stream] of streams.entries()) {
      const answer = await stream.next(
        'the answer',
        ({ id, method }) => id === ids[i] && method === undefined,
      )
      expect(JSON.stringify(answer.result)).toContain(`${ids[i]} done`)
    }
  })
})

/** A server that answers as its test says; the rest is what a session needs. */
function scripted(answer: (res: express.Response, body: { id: number }[]) => void) {
  const app = express()
  app.use(express.json())
  const left = { open: 0 }
  app.all('/mcp', (req, res) => {
    const { body } = req
    if (req.method === 'DELETE') return void res.status(200).end()
    if (req.method !== 'POST') return void res.status(405).end()
    const method = Array.isArray(body) ? 'batch' : body.method
    if (body.id === undefined && !Array.isArray(body)) return void res.status(202).end()
    if (method === 'initialize') {
      const result = {
        protocolVersion: '2025-03-26',
        capabilities: {},
        serverInfo: { name: 's', version: '1' },
      }
      return void res.set('mcp-session-id', 'scripted').json({ jsonrpc: '2.0', id: body.id, result })
    }
    if (method === 'ping') return void res.json({ jsonrpc: '2.0', id: body.id, result: {} })
    res.set('content-type', 'text/event-stream')
    left.open += 1
    res.on('close', () => {
      left.open -= 1
    })
    answer(res, Array.isArray(body) ? body : [body])
  })
  return { app: app as never, left }
}

describe('a batch of requests', () => {
  it.each(['one event', 'two events', 'plain JSON'])(
    'that is answered in %s has each answer once',
    async (how) => {
      const { app } = scripted((res, requests) => {
        const answers = requests.map(({ id }) => ({ jsonrpc: '2.0', id, result: { of: id } }))
        if (how === 'plain JSON') return void res.set('content-type', 'application/json').json(answers)
        const events = how === 'one event' ? [answers] : answers
        for (const event of events) res.write(`data: ${JSON.stringify(event)}\n\n`)
        res.end()
      })
      const { url } = await serveApp(app, 'memory:')
      const client = await RawClient.open(url, { version: '2025-03-26' })
      onTestFinished(() => client.close())
      const batch = [client.request('tools/list'), client.request('prompts/list')]
      const response = await client.post(batch)
      const text = await response.text()
      const payloads =
        how === 'plain JSON' ? [text] : [...text.matchAll(/^data: (.+)$/gm)].map(([, data]) => data!)
      const answers = payloads.flatMap((payload) => [JSON.parse(payload)].flat())
      expect(answers.map(({ id, result }) => [id, result])).toEqual(batch.map(({ id }) => [id, { of: id }]))
    },
  )

  it('that names one id twice is refused', async () => {
    const { app } = scripted((res) => void res.end())
    const { url } = await serveApp(app, 'memory:')
    const client = await RawClient.open(url, { version: '2025-03-26' })
    const request = client.request('tools/list')
    expect(await statusOf(client.post([request, request]))).toBe(400)
  })
})

describe('an app', () => {
  it('that leaves the stream of a POST open behind its answer gets a second, and then it is ended', async () => {
    const { app, left } = scripted((res, [request]) => {
      res.write(`data: ${JSON.stringify({ jsonrpc: '2.0', id: request!.id, result: {} })}\n\n`)
    })
    const { url } = await serveApp(app, 'memory:')
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    for (let n = 0; n < 10; n += 1)
      expect((await client.call(client.request('tools/list'))).result).toEqual({})
    expect(left.open).toBeGreaterThan(0)
    await until('all of them to be ended', () => left.open === 0, 5000)
  })

  it('that breaks off says nothing about itself to the client', async () => {
    const { app } = scripted((res) => {
      res.write(': begun\n\n')
      setTimeout(() => res.destroy(new Error('/etc/secret of db.internal')), 20)
    })
    const { url } = await serveApp(app, 'memory:')
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const { error } = await client.call(client.request('tools/list'))
    expect(error?.code).toBe(-32603)
    expect(error?.message).not.toMatch(/secret|internal\b.*db|\/|aborted|ECONN/)
  })
})

describe('the life of a session', () => {
  it('is never shorter than a ttl after its last use, whatever kind of use it was', async () => {
    const { app } = await appShape('express5').build({ journal: memoryJournal() })
    const { url, handler } = await serveApp(app as never, 'memory:', { ttl: 30 })
    const client = await RawClient.open(url)
    // The last use comes shortly before the next touch would have been made, and stores nothing.
    await sleep(500)
    const used = Date.now()
    expect(await statusOf(client.post({ jsonrpc: '2.0', method: 'notifications/roots/list_changed' }))).toBe(
      202,
    )
    await sleep(100)
    const record = await handler.store.sessions.get(client.session!)
    expect(record!.expiresAt).toBeGreaterThanOrEqual(used + 30_000)
  })

  it('is kept although a touch fails once', async () => {
    const { app } = await appShape('express5').build({ journal: memoryJournal() })
    const { url, handler } = await serveApp(app as never, 'memory:', { ttl: 4 })
    const { sessions } = handler.store
    const touch = sessions.touch.bind(sessions)
    let failed = 0
    sessions.touch = async (touches) => {
      failed += 1
      if (failed > 1) return touch(touches)
      throw new Error('the store is away for a moment')
    }
    const client = await RawClient.open(url)
    const before = (await sessions.get(client.session!))!.expiresAt
    // It was made a moment ago: use within a tenth of its ttl stores nothing.
    await sleep(500)
    const said = client.post({ jsonrpc: '2.0', method: 'notifications/roots/list_changed' })
    expect(await statusOf(said)).toBe(202)
    await until(
      'the touch to be made again',
      async () => (await sessions.get(client.session!))!.expiresAt > before,
      5000,
    )
    expect(failed).toBeGreaterThan(1)
  })
})
