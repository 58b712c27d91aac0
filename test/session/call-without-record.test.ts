import { expect, test } from 'vitest'
import { PersistError } from '../../src/errors.ts'
import { MemoryEventStore } from '../../src/index.ts'
import { onOwnedClock } from './owned-clock.ts'
import type { Runs } from './simulated-app.ts'
import { call, open } from './simulated-client.ts'
import { twoNodes } from './simulated-node.ts'

/** Its owner may be cut off from everybody: then the next one finds nothing in the log, and makes the call. */
test('a call of another node whose record cannot be stored is not made', () =>
  onOwnedClock(20_000, async () => {
    const store = new MemoryEventStore()
    const { append } = store.log
    const runs: Runs = new Map()
    const [owner, other] = twoNodes(store, runs)
    const session = await open(owner)
    let away = true
    store.log.append = async (request) => {
      if (away && request.events.some(({ kind }) => kind === 'open')) {
        away = false
        throw new PersistError('STORE_UNAVAILABLE', 'The store is away.')
      }
      return Reflect.apply(append, store.log, [request])
    }
    const { answers } = await call(session, 1, 'unsafe', { call: 'far', steps: 1, ms: 5 }, () => other)
    expect(answers.map(({ result }) => result !== undefined)).toEqual([true])
    expect([runs.get('far'), runs.get('far+')]).toEqual([undefined, 1])
    await owner.close()
    await other.close()
  }))
