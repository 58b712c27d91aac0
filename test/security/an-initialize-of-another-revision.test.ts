import { expect, it, onTestFinished } from 'vitest'
import { serveFront, wrap } from '../support/apps/front.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { listen } from '../support/net/listen.ts'
import { until } from '../support/wait.ts'
import { statusOf } from './support.ts'

// Apps open a session for an `initialize` whatever its headers say.
const sessionless = { 'mcp-protocol-version': '2026-07-28' }

it.each(['express5', 'fastify', 'hono', 'url'] as const)(
  '%s: a session that is opened in the name of a revision without sessions is kept and counted like any other',
  async (front) => {
    const { url, store } = await serveFront(front, { options: { maxSessions: 2 } })
    for (const claimed of [undefined, 'any']) {
      const client = new RawClient(url)
      onTestFinished(() => client.close())
      const opened = await client.post(client.initialize(), {
        ...sessionless,
        ...(claimed !== undefined && { 'mcp-session-id': claimed }),
      })
      await opened.text()
      expect(opened.status).toBe(200)
      client.session = opened.headers.get('mcp-session-id') ?? undefined
      expect(await store.sessions.get(client.session!)).toBeDefined()
      const listening = await client.listen()
      await client.tool('burst', { tag: 'heard', count: 1, via: 'standalone' })
      await until('what is said outside of calls', () => listening.logs.includes('heard:1'))
    }
    const third = new RawClient(url)
    expect(await statusOf(third.post(third.initialize(), sessionless))).toBe(503)
  },
)

it('a factory makes no more servers for such than for others', async () => {
  const handler = await wrap('factory', { options: { maxSessions: 2 } })
  const { origin, close } = await listen((req, res) => handler(req, res))
  onTestFinished(close)
  for (const expected of [200, 200, 503]) {
    const client = new RawClient(`${origin}/mcp`)
    onTestFinished(() => client.close())
    const opened = await client.post(client.initialize(), sessionless)
    await opened.text()
    expect(opened.status).toBe(expected)
    client.session = opened.headers.get('mcp-session-id') ?? undefined
    if (expected === 200) await client.listen()
  }
})
