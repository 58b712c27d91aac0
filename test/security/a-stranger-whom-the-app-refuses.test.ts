import { describe, expect, it } from 'vitest'
import type { Message, RawClient } from '../support/clients/raw-client.ts'
import { until } from '../support/wait.ts'
import { type GuardedFront, guardedFronts, house, statusOf } from './support.ts'

const users = { 'alice-1': 'alice', 'bob-1': 'bob' }
/** Mallory has no account at all. */
const strangers = ['bob-1', 'mallory', undefined] as const

/** Everything that somebody can do with the id of a session. */
async function everything(client: RawClient, lastEventId: string, question: Message): Promise<number[]> {
  const result = { model: 'evil', role: 'assistant', content: { type: 'text', text: 'evil' } }
  const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: question.id } }
  return [
    await statusOf(client.post(client.request('tools/list'))),
    await statusOf(client.post(client.toolCall('counter'))),
    await statusOf(client.post({ jsonrpc: '2.0', id: question.id!, result })),
    await statusOf(client.post(cancel)),
    await statusOf(client.post({ hello: 'world' })),
    await statusOf(client.get()),
    await statusOf(client.get({ 'last-event-id': lastEventId })),
    await statusOf(client.delete()),
  ]
}

/** By whatever status the app refuses, with or without us knowing who is who. */
const cases = guardedFronts.flatMap((framework) =>
  [404, 403, 400].map((status) => [framework, status] as [GuardedFront, number]),
)

describe.each(cases)('a %s app that keeps sessions of others with %i', (framework, stranger) => {
  it.each(['at the owner', 'at another node'])(
    'says so to a stranger, and nothing happens to the session, %s',
    async (where) => {
      const home = house(framework, { users, stranger })
      const owner = await home.node()
      const node = where === 'at the owner' ? owner : await home.node()
      const alice = await home.open(owner, 'alice-1')
      const opened = (await home.store.sessions.get(alice.session!))?.generation
      const asked = await alice.stream(alice.toolCall('sample', { prompt: 'who?' }))
      const question = await asked.next('the question', ({ method }) => method === 'sampling/createMessage')
      const running = await alice.stream(alice.toolCall('slow', { tag: 'mine', steps: 1000, ms: 5 }))
      await running.count(2)
      expect(await alice.tool('counter')).toBe('1')
      const listening = await alice.listen()

      for (const token of strangers) {
        const refusals = await everything(home.as(alice, token, node), asked.events[0]!.id!, question)
        const expected = token === 'bob-1' ? stranger : 401
        expect(refusals, String(token)).toEqual(refusals.map(() => expected))
      }
      expect([running.state, asked.state, listening.state]).toEqual(['open', 'open', 'open'])
      const record = await home.store.sessions.get(alice.session!)
      expect([record?.generation, record?.principal]).toEqual([opened, null])

      const result = { model: 'good', role: 'assistant', content: { type: 'text', text: 'alice' } }
      expect(await statusOf(alice.answer(question, result))).toBe(202)
      const final = await asked.next('the result', (message) => message.result !== undefined)
      expect(JSON.stringify(final.result)).toContain('who? -> alice')
      expect(await alice.tool('counter'), 'the same instance').toBe('2')
      await alice.tool('burst', { tag: 'hers', count: 1, via: 'standalone' })
      await until('the message', () => listening.logs.includes('hers:1'))
    },
    60_000,
  )
})

describe.each(guardedFronts)('a %s app without a route for DELETE', (framework) => {
  it('says so to the client itself, and its session and calls live on', async () => {
    const home = house(framework, { users, noDelete: true })
    const node = await home.node()
    const alice = await home.open(node, 'alice-1')
    const opened = (await home.store.sessions.get(alice.session!))?.generation
    const running = await alice.stream(alice.toolCall('slow', { tag: 'mine', steps: 20, ms: 10 }))
    await running.count(2)
    const response = await alice.delete()
    expect([response.status, await response.text()]).toEqual([
      404,
      expect.stringContaining('The app says 404'),
    ])
    const answer = await running.next('the answer', ({ result }) => result !== undefined)
    expect(JSON.stringify(answer)).toContain('mine done after 20')
    expect((await home.store.sessions.get(alice.session!))?.generation).toBe(opened)
  })
})

describe.each(guardedFronts)('a %s app that has lost a session', (framework) => {
  it('is given it anew for its own client, and not because of a stranger', async () => {
    const home = house(framework, { users, stranger: 404 })
    const node = await home.node()
    const alice = await home.open(node, 'alice-1')
    node.sweep()
    const bob = home.as(alice, 'bob-1', node)
    expect(await statusOf(bob.post(bob.request('tools/list')))).toBe(404)
    expect(await statusOf(bob.get())).toBe(404)
    expect(await alice.tool('echo', { text: 'still mine' })).toBe('still mine')
    expect(await statusOf(bob.post(bob.request('tools/list')))).toBe(404)
  })
})
