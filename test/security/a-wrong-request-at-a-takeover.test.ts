import { describe, expect, it } from 'vitest'
import { type GuardedFront, house, statusOf } from './support.ts'

const FRONTS: readonly GuardedFront[] = ['express', 'fastify', 'hono', 'url']

describe.each(FRONTS)('%s', (front) => {
  it('a request that is refused for what it says takes nothing of the session with it', async () => {
    const { node, open } = house(front, { users: { 'a-1': 'alice' } })
    const first = await node()
    const alice = await open(first, 'a-1')
    await alice.tool('echo', { text: 'here' })
    await first.leave()
    const there = alice.clone((await node()).url)
    const wrong = { 'mcp-protocol-version': 'zzz' }
    expect(await statusOf(there.post(there.request('ping'), wrong))).toBe(400)
    expect(await there.tool('echo', { text: 'there' })).toBe('there')
    // Nor later, in her name: her standalone stream is asked of the app as ever.
    expect(await statusOf(there.get(wrong))).toBe(400)
    expect(await statusOf(there.get())).toBe(200)
  })
})
