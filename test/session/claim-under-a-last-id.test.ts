import { expect, test } from 'vitest'
import { delay } from '../../src/clock.ts'
import { MemoryEventStore } from '../../src/index.ts'
import { onOwnedClock } from './owned-clock.ts'
import { call, open } from './simulated-client.ts'
import { LEASE, twoNodes } from './simulated-node.ts'

/** In the name of a node that is gone anybody could have it, while it is served here. */
test('a session that was claimed under an id which is over meanwhile is claimed under the next one', () =>
  onOwnedClock(20_000, async () => {
    const store = new MemoryEventStore()
    const { claim } = store.sessions
    const [owner, other] = twoNodes(store, new Map())
    const session = await open(owner)
    owner.kill()
    await delay(LEASE * 1000)
    let late = true
    store.sessions.claim = async (...args) => {
      if (late) {
        late = false
        await store.nodes.unregister(args[1].owner)
        await delay(LEASE * 1000)
      }
      return Reflect.apply(claim, store.sessions, args)
    }
    const { answers } = await call(session, 1, 'safe', { call: 'one', steps: 1, ms: 5 }, () => other)
    expect(answers.map(({ result }) => result !== undefined)).toEqual([true])
    expect((await store.sessions.get(session))?.ownerAlive).toBe(true)
    await other.close()
  }))
