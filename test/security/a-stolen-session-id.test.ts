import { describe, expect, it } from 'vitest'
import { until } from '../support/wait.ts'
import { type GuardedFront, guardedFronts, type House, house, statusOf } from './support.ts'

const users = { 'alice-1': 'alice', 'bob-1': 'bob' }
const userOf = { 'Bearer alice-1': 'alice', 'Bearer bob-1': 'bob' } as Record<string, string>

/** An app that looks whose a session is; and one that does not, where `principal` does. */
const HOUSES: readonly [string, (front: GuardedFront) => House][] = [
  ['the app looks', (front) => house(front, { users, stranger: 404 })],
  [
    'principal',
    (front) =>
      house(
        front,
        { users },
        { principal: ({ headers }) => userOf[headers.get('authorization') ?? ''] ?? null },
      ),
  ],
]

const cases = guardedFronts.flatMap((front) => HOUSES.map(([who, open]) => [front, who, open] as const))

describe.each(cases)(
  'a user of a %s app who has learnt the id of another’s session (%s)',
  (front, _, open) => {
    it('does not replace its standalone stream by a second GET, at its owner or elsewhere (CVE-2026-33946)', async () => {
      const home = open(front)
      const owner = await home.node()
      const other = await home.node()
      const alice = await home.open(owner, 'alice-1')
      const listening = await alice.listen()
      for (const node of [owner, other]) {
        const bob = home.as(alice, 'bob-1', node)
        expect(await statusOf(bob.get())).toBe(404)
      }
      await alice.tool('burst', { tag: 'for-alice', count: 1, via: 'standalone' })
      await until('the message', () => listening.logs.includes('for-alice:1'))
      expect(listening.state).toBe('open')

      await owner.leave()
      const bob = home.as(alice, 'bob-1', other)
      expect(await statusOf(bob.get({ 'last-event-id': listening.events[0]!.id }))).toBe(404)
      expect(await home.as(alice, 'alice-1', other).tool('counter')).toBe('1')
    })

    it('calls nothing in it, answers nothing, cancels nothing, ends nothing (CVE-2026-52869)', async () => {
      const home = open(front)
      const owner = await home.node()
      const other = await home.node()
      const alice = await home.open(owner, 'alice-1')
      const call = alice.toolCall('slow', { tag: 'hers', steps: 1000, ms: 10 })
      const running = await alice.stream(call)
      await running.count(2)
      for (const leaves of [false, true]) {
        if (leaves) await owner.leave()
        for (const node of leaves ? [other] : [owner, other]) {
          const bob = home.as(alice, 'bob-1', node)
          const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: call.id } }
          const result = { jsonrpc: '2.0', id: 0, result: {} }
          expect(await statusOf(bob.post(bob.toolCall('slow', { tag: 'evil', steps: 0 })))).toBe(404)
          for (const message of [cancel, result]) expect(await statusOf(bob.post(message))).toBe(404)
          expect(await statusOf(bob.delete())).toBe(404)
        }
        if (!leaves) expect(running.state).toBe('open')
      }
      expect(home.journal.entries().filter(({ tag }) => tag === 'evil')).toEqual([])
      expect(await home.as(alice, 'alice-1', other).tool('counter')).toBe('1')
    })

    it('hears no byte of it in a session of his own, by event ids or request ids of hers (CVE-2026-25536)', async () => {
      const home = open(front)
      const owner = await home.node()
      const nodes = [owner, await home.node()]
      const alice = await home.open(owner, 'alice-1')
      const said = await alice.stream(alice.toolCall('burst', { tag: 'secret', count: 2 }))
      await said.over()
      const bob = await home.open(owner, 'bob-1')
      for (const node of nodes) {
        const client = home.as(bob, 'bob-1', node)
        for (const { id } of said.events) {
          const response = await client.get({ 'last-event-id': id })
          expect([response.status, await response.text()]).toEqual([
            400,
            expect.not.stringContaining('secret'),
          ])
        }
      }
      // The same request ids, at the same time.
      const calls = [alice, bob].map((client, i) =>
        client.call({ ...client.toolCall('echo', { text: ['for alice', 'for bob'][i]! }), id: 77 }),
      )
      const [hers, his] = await Promise.all(calls)
      expect(JSON.stringify(hers?.result)).toContain('for alice')
      expect(JSON.stringify(his?.result)).toContain('for bob')
    })
  },
)
