import { expect, test } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { onOwnedClock } from './owned-clock.ts'
import type { Runs } from './simulated-app.ts'
import { call, open, sleep } from './simulated-client.ts'
import { LEASE, SimulatedNode } from './simulated-node.ts'

/*
 * Two or three nodes over one store, driven through random crashes, orderly ends, pauses longer than the lease, a store
 * that is away, lost wake-ups and clients that move from node to node, on a clock of the test's own. Whatever happens:
 *   - every call is answered exactly once, with its result or with the error that says it was interrupted;
 *   - a call that must not be repeated was run once at the most, and its result is only told if it was run;
 *   - what a client receives of a stream comes in order, each event once, across all its reconnections;
 *   - each stream ends once in the log.
 */
const SEEDS = Number(process.env.SEEDS ?? 150)
/** The first one, to look at one that failed. */
const FIRST = Number(process.env.FIRST_SEED ?? 1)

test.each(Array.from({ length: SEEDS }, (_, i) => FIRST + i))(
  'seed %i',
  (seed) => onOwnedClock(60_000, () => run(seed)),
  60_000,
)

async function run(seed: number): Promise<void> {
  const random = generator(seed)
  const chance = (share: number) => random() < share
  const between = (least: number, most: number) => least + Math.floor(random() * (most - least + 1))

  const store = new MemoryEventStore()
  const runs: Runs = new Map()
  const lossy = chance(0.5)
  const spawn = () => new SimulatedNode(store, runs, () => lossy && chance(0.3))
  const nodes = Array.from({ length: between(2, 3) }, spawn)
  const alive = () => nodes.filter((node) => !node.dead && !node.leaving)
  const leaving: Promise<void>[] = []
  /** A process died, or could not reach the store for longer than its lease while others could. */
  let harmed = false
  const anyNode = () => alive()[between(0, alive().length - 1)]!

  const session = await open(anyNode())
  let over = false
  const chaos = (async () => {
    for (let round = 0; round < 6 && !over; round += 1) {
      await sleep(between(10, 200))
      const victim = anyNode()
      const kind = random()
      if (kind < 0.35) {
        victim.kill()
        harmed = true
        nodes.push(spawn())
      } else if (kind < 0.5) {
        nodes.push(spawn())
        leaving.push(victim.close())
      } else if (kind < 0.75) {
        const long = chance(0.6)
        harmed ||= long
        victim.pause()
        await sleep(long ? LEASE * 1000 * 1.5 : 40)
        victim.resume()
      } else {
        // The store is away for everybody, and comes back for one after the other.
        const all = nodes.filter((node) => !node.dead)
        for (const node of all) node.pause()
        await sleep(chance(0.6) ? LEASE * 1000 * 1.5 : 40)
        for (const node of all) {
          node.resume()
          await sleep(between(0, 20))
        }
      }
    }
  })()

  const calls = Array.from({ length: between(4, 10) }, async (_, i) => {
    await sleep(between(0, 900))
    const tool = chance(0.5) ? 'safe' : 'unsafe'
    const name = `${tool}-${i}`
    const heard = await call(
      session,
      i + 1,
      tool,
      { call: name, steps: between(0, 6), ms: between(1, 60) },
      anyNode,
    )
    return { name: heard.name, tool, heard }
  })
  const results = await Promise.all(calls)
  over = true
  await chaos

  for (const { name, tool, heard } of results) {
    expect(heard.answers, name).toHaveLength(1)
    const [answer] = heard.answers
    const ran = runs.get(name) ?? 0
    if (answer!.error) {
      expect(answer!.error.data?.reason, `${name}: ${answer!.error.message}`).toBe('interrupted')
      // One that may be repeated is run again once, and not as often as it takes its process with it.
      if (tool === 'safe') expect(ran).toBeGreaterThanOrEqual(2)
      expect(harmed, `${name} was interrupted, though every process went on`).toBe(true)
    } else {
      expect(answer!.result!.content[0]!.text).toBe(name)
      expect(ran).toBeGreaterThanOrEqual(1)
    }
    if (tool === 'unsafe') expect(ran, `${name} was run ${ran} times`).toBeLessThanOrEqual(1)
    expect(heard.ids, 'each event once').toEqual([...new Set(heard.ids)])
    expect(heard.positions, 'in order').toEqual([...heard.positions].sort((a, b) => a - b))
  }

  for (const node of nodes) node.resume()
  await Promise.all(leaving)
  await Promise.all(alive().map((node) => node.close()))
  const log = await store.log.read({ sessionId: session, after: 0, limit: 10_000 })
  const ends = new Map<string, number>()
  for (const { streamId, kind } of log.events) {
    if (kind === 'open') ends.set(streamId, ends.get(streamId) ?? 0)
    if (kind === 'final' || kind === 'end') ends.set(streamId, (ends.get(streamId) ?? 0) + 1)
  }
  expect(
    [...ends.values()].every((count) => count === 1),
    JSON.stringify([...ends]),
  ).toBe(true)
}

/** Mulberry32: small, and the same on every machine. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
