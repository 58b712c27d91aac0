import { expect, test } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { onOwnedClock } from './owned-clock.ts'
import type { Runs } from './simulated-app.ts'
import { call, open, sleep } from './simulated-client.ts'
import { twoNodes } from './simulated-node.ts'

/** Milliseconds that the record of a call takes: longer than the owner drains. */
const SLOW = 1500

/** The owner gives the session up while the record of another node's call is on its way. */
test.each([
  ['safe', undefined, 1],
  ['unsafe', 'interrupted', undefined],
] as const)('a %s call that comes as its session leaves is settled once', (tool, reason, times) =>
  onOwnedClock(20_000, async () => {
    const store = new MemoryEventStore()
    const { append } = store.log
    const runs: Runs = new Map()
    const [owner, other] = twoNodes(store, runs)
    const session = await open(owner)
    store.log.append = async (request) => {
      if (request.events.some(({ kind }) => kind === 'open')) await sleep(SLOW)
      return Reflect.apply(append, store.log, [request])
    }
    const made = call(session, 1, tool, { call: 'far', steps: 2, ms: 5 }, () => other)
    await sleep(SLOW / 10)
    await owner.close()

    const { answers } = await made
    expect(answers.map(({ error }) => (error?.data as { reason?: string } | undefined)?.reason)).toEqual([
      reason,
    ])
    expect(runs.get('far')).toBe(times)
    await other.close()
  }),
)
