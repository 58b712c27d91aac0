import { expect, test } from 'vitest'
import { AppAway } from '../../src/app/app.ts'
import type { LocalApp } from '../../src/session/live/local-app.ts'
import { Farewells } from '../../src/session/ownership/farewells.ts'
import { onOwnedClock } from './owned-clock.ts'

/* An app that does not free a session of its own is asked again: later and later, not for ever, and never under a session that is here. */

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const silent = { debug() {}, info() {}, warn() {}, error() {} }

/** The app's session `id`, whose DELETE ends in each of `outcomes`, and in the last of them from then on. */
function session(id: string, outcomes: readonly (Error | 'freed' | 'hangs')[]) {
  const said: number[] = []
  const local = {
    publicId: id,
    sessionId: id,
    async delete() {
      said.push(Math.round(performance.now()))
      const outcome = outcomes[Math.min(said.length, outcomes.length) - 1]
      if (outcome === 'hangs') await sleep(2000)
      else if (outcome !== 'freed') throw outcome
    },
  }
  return { local: local as unknown as LocalApp, said }
}

const BUSY = new Error('The app answered with status 503.')

test.each([
  ['once, where the app frees it', ['freed'], [0]],
  ['again, while it is busy', [BUSY, BUSY, 'freed'], [0, 500, 1500]],
  ['not for ever', [BUSY], [0, 500, 1500, 3500, 7500, 15_500, 31_500, 61_500, 91_500, 121_500]],
  ['not where its process is gone', [new AppAway()], [0]],
] as const)('it is said %s', (_, outcomes, times) =>
  onOwnedClock(600_000, async () => {
    const farewells = new Farewells({ isInUse: () => false, logger: silent })
    const { local, said } = session('a', outcomes)
    const began = Math.round(performance.now())
    await farewells.say(local)
    await sleep(300_000)
    expect(said.map((at) => at - began)).toEqual(times)
  }),
)

test('it is not said again while the session is here, or on its way', () =>
  onOwnedClock(60_000, async () => {
    let isHere = false
    const farewells = new Farewells({ isInUse: () => isHere, logger: silent })
    const { local, said } = session('a', [BUSY, 'freed'])
    await farewells.say(local)
    isHere = true
    await sleep(3000)
    expect(said).toHaveLength(1)
    isHere = false
    await sleep(10_000)
    expect(said).toHaveLength(2)
  }))

test('whoever brings a session back waits for one that is being said', () =>
  onOwnedClock(60_000, async () => {
    const farewells = new Farewells({ isInUse: () => false, logger: silent })
    const began = performance.now()
    await farewells.silence('a')
    expect(performance.now()).toBe(began)
    void farewells.say(session('a', ['hangs']).local)
    await farewells.silence('b')
    expect(performance.now()).toBe(began)
    await farewells.silence('a')
    expect(performance.now() - began).toBeGreaterThanOrEqual(2000)
  }))

test('when the process ends nothing is said any more', () =>
  onOwnedClock(60_000, async () => {
    const farewells = new Farewells({ isInUse: () => false, logger: silent })
    const { local, said } = session('a', [BUSY])
    await farewells.say(local)
    farewells.close()
    farewells.sayLater(local)
    await sleep(30_000)
    expect(said).toHaveLength(1)
  }))
