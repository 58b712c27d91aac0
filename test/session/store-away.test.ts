import { expect, test } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { onOwnedClock } from './owned-clock.ts'
import type { Runs } from './simulated-app.ts'
import { call, open, sleep } from './simulated-client.ts'
import { LEASE, SimulatedNode } from './simulated-node.ts'

/*
 * The store is away for longer than the lease, so that all leases run out, and comes back for the node first that does
 * not own the session. A client of that node knocks at once.
 */
test.each(Array.from({ length: 10 }, (_, i) => i * 10))(
  'a store that was away: the living keep their sessions, though another node sees it again %i ms earlier',
  (head) => onOwnedClock(20_000, () => run(head)),
)

async function run(head: number): Promise<void> {
  const store = new MemoryEventStore()
  const runs: Runs = new Map()
  const nodes = Array.from({ length: 2 }, () => new SimulatedNode(store, runs, () => false))
  const [owner, other] = nodes as [SimulatedNode, SimulatedNode]
  const session = await open(owner)
  const near = call(session, 1, 'unsafe', { call: 'near', steps: 40, ms: 30 }, () => owner)
  const far = call(session, 2, 'unsafe', { call: 'far', steps: 40, ms: 30 }, () => other)
  await sleep(100)

  for (const node of nodes) node.pause()
  const knocking = call(session, 3, 'safe', { call: 'knock', steps: 0, ms: 1 }, () => other)
  await sleep(LEASE * 1000 * 2)
  other.resume()
  await sleep(head)
  owner.resume()

  for (const heard of await Promise.all([near, far, knocking])) {
    expect(heard.answers.map(({ error }) => error)).toEqual([undefined])
    expect(runs.get(heard.name), heard.name).toBe(1)
  }
  await Promise.all(nodes.map((node) => node.close()))
}
