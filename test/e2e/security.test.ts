import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { appShapes } from '../support/apps/app-shapes.ts'
import { corsHeaders, principalOf, tokens } from '../support/apps/auth.ts'
import { type Message, RawClient } from '../support/clients/raw-client.ts'
import { serveWrapped, type Wrapped } from '../support/serve.ts'
import { until } from '../support/wait.ts'

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const origin = { origin: corsHeaders['access-control-allow-origin'] }
const principal = ({ headers }: { headers: Headers }) => principalOf(headers.get('authorization'))

async function statusOf(response: Promise<Response>): Promise<number> {
  const answer = await response
  await answer.text().catch(() => '')
  return answer.status
}

describe.each(appShapes.filter(({ guarded }) => guarded))('$name with auth and CORS', (shape) => {
  let served: Wrapped
  beforeAll(async () => {
    served = await serveWrapped(shape, { app: { auth: true, cors: true }, options: { principal } })
  })
  afterAll(() => served.close())

  async function open(token = tokens.alice): Promise<RawClient> {
    const client = await RawClient.open(served.url, { headers: { ...bearer(token), ...origin } })
    onTestFinished(() => client.close())
    return client
  }

  function as(client: RawClient, token: string | undefined): RawClient {
    const other = client.clone()
    other.headers = { ...origin, ...(token !== undefined && bearer(token)) }
    onTestFinished(() => other.close())
    return other
  }

  it('asks for a token as before: to open, to call, to listen, to resume, to end', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('echo', { text: 'secret' }))
    await stream.over()
    for (const token of [undefined, 'no-such-token']) {
      const stranger = as(client, token)
      const none = { 'mcp-session-id': undefined, 'mcp-protocol-version': undefined }
      expect(await statusOf(stranger.post(stranger.initialize(), none))).toBe(401)
      expect(await statusOf(stranger.post(stranger.request('tools/list')))).toBe(401)
      expect(await statusOf(stranger.post({ jsonrpc: '2.0', id: 0, result: {} }))).toBe(401)
      expect(await statusOf(stranger.get())).toBe(401)
      expect(await statusOf(stranger.get({ 'last-event-id': stream.events[0]!.id }))).toBe(401)
      expect(await statusOf(stranger.delete())).toBe(401)
    }
    const refused = await as(client, undefined).get()
    await refused.text()
    expect(refused.headers.get('www-authenticate')).toContain('Bearer')
    expect(await client.tool('echo', { text: 'still mine' })).toBe('still mine')
  })

  it('keeps a session for the one who opened it, whatever else a stranger knows', async () => {
    const alice = await open()
    const asked = await alice.stream(alice.toolCall('sample', { prompt: 'who?' }))
    const question = await asked.next('the question', ({ method }) => method === 'sampling/createMessage')
    const running = await alice.stream(
      alice.toolCall('slow', { tag: `run-${shape.name}`, steps: 200, ms: 5 }),
    )
    await running.count(2)
    const call = running.messages.find(({ id }) => id !== undefined)
    const bob = as(alice, tokens.bob)
    expect(await statusOf(bob.post(bob.request('tools/list')))).toBe(404)
    expect(await statusOf(bob.get())).toBe(404)
    expect(await statusOf(bob.get({ 'last-event-id': asked.events[0]!.id }))).toBe(404)
    const answer: Message = {
      jsonrpc: '2.0',
      id: question.id!,
      result: { model: 'evil', role: 'assistant', content: { type: 'text', text: 'evil' } },
    }
    expect(await statusOf(bob.post(answer))).toBe(404)
    const params = { requestId: call?.id ?? 4 }
    expect(await statusOf(bob.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params }))).toBe(404)
    expect(await statusOf(bob.delete())).toBe(404)
    const result = { model: 'good', role: 'assistant', content: { type: 'text', text: 'alice' } }
    expect(await statusOf(alice.answer(question, result))).toBe(202)
    const final = await asked.next('the result', (message) => message.result !== undefined)
    expect(JSON.stringify(final.result)).toContain('who? -> alice')
    expect(running.state).toBe('open')
  })

  it('knows its user by another token, as after a refresh', async () => {
    const alice = await open()
    const refreshed = as(alice, tokens.aliceRefreshed)
    expect(await refreshed.tool('counter')).toBe('1')
    const stream = await refreshed.listen()
    await refreshed.tool('burst', { tag: 'refreshed', count: 1, via: 'standalone' })
    await until('the message', () => stream.logs.includes('refreshed:1'))
  })

  it('keeps the CORS headers of the app on every answer, also on those that it did not give itself', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('echo', { text: 'cors' }))
    await stream.over()
    const standalone = await client.listen()
    const resumed = await client.listen(stream.events[0]!.id)
    const lost = as(client, tokens.alice)
    lost.session = 'no-such-session'
    const unknown = await lost.post(lost.request('tools/list'))
    await unknown.text()
    expect(unknown.status).toBe(404)
    const accepted = await client.post({ jsonrpc: '2.0', method: 'notifications/roots/list_changed' })
    for (const { headers } of [stream.response, standalone.response, resumed.response, accepted, unknown]) {
      expect(headers.get('access-control-allow-origin')).toBe(origin.origin)
      expect(headers.get('access-control-expose-headers')?.toLowerCase()).toContain('mcp-session-id')
    }
    const preflight = await fetch(served.url, {
      method: 'OPTIONS',
      headers: { ...origin, 'access-control-request-method': 'POST' },
    })
    await preflight.text()
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-origin')).toBe(origin.origin)
  })
})
