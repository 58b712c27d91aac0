import type { Run } from '../ledger.ts'
import { GONE_AFTER, type World } from '../world.ts'

/** Milliseconds after a touch that failed in which it is made again. */
const TOLD_AGAIN = 1500

/** A session that nobody uses is gone from store and memory a ttl later (and the tenth of it that a touch may be old). */
export async function checkExpired(world: World): Promise<void> {
  const { time, server, faults, violations } = world
  // Use that the store did not hear of is told it as soon as it hears again, and counts from then.
  while (time.now - faults.last < TOLD_AGAIN) await time.sleep(100)
  // A call that nobody follows is given up a ttl later, and what it said until then was use of the session. So is one that the
  // app has been told of and has not begun with.
  const isAsked = world.alive.some(({ app }) => app.pending > 0)
  const runs = [...world.ledger.calls.values()].flatMap((call) => call.runs)
  // Nor can it be known before that a tool broke off unheard.
  await time.sleep(Math.max(0, ...runs.map(({ over = 0 }) => over - time.now)))
  if (world.ledger.running.size > 0 || isAsked) await time.sleep(GONE_AFTER)
  await time.sleep(GONE_AFTER)
  const { sessions, events } = await server.memory.stats()
  if (sessions > 0) {
    const left = await server.memory.sessions.list()
    violations.add('expires', `in the store: ${left.sessions.map(({ id }) => id).join(' ')}`)
  } else if (events > 0) violations.add('expires', `${events} events in the store`)
  for (const { name, app } of world.alive) {
    if (app.sessions.size > 0)
      violations.add('expires', `in the memory of ${name}: ${[...app.sessions.keys()].join(' ')}`)
    if (app.openStreams > 0)
      violations.add('expires', `${app.openStreams} streams of the app of ${name} are open`)
  }
}

/**
 * What is answered is over: no later owner runs it again. But a process that was stopped between the record and the run, or
 * cut off from the others, goes on with it, whoever has settled it meanwhile.
 */
export function checkAnswered({ ledger, violations, writes }: World): void {
  for (const { name, runs, answered } of ledger.calls.values()) {
    if (answered === undefined) continue
    const isHarmed = (from: number, to: number) => ledger.harms.some((at) => at >= from && at <= to)
    const isLate = ({ process, began }: Run) =>
      writes.records(name).some(({ by, at }) => by === process && at <= answered && isHarmed(at, began))
    if (runs.some((run) => run.began > answered && !isLate(run)))
      violations.add('runs', `${name} was answered, and ran again`)
  }
}

/** All nodes close, and nothing is left. */
export async function checkLeftovers(world: World): Promise<void> {
  const { violations, server } = world
  await Promise.all(world.alive.map((node) => world.close(node)))
  await Promise.all(world.closing)
  const { nodes } = await server.memory.stats()
  await world.time.sleep(3000)
  for (const node of world.nodes) {
    const { name, process, store, app } = node
    if (!process.alive) continue
    const left = [
      [process.timers.size, 'timers'],
      [store.pending, 'operations of the store'],
      [store.hearing, 'subscriptions'],
      [node.streams.size, 'streams of clients'],
      [node.pending, 'requests'],
      [app.pending, 'requests to the app'],
      [app.openStreams, 'streams of the app'],
    ] as const
    for (const [count, what] of left) if (count > 0) violations.add('leftovers', `${name}: ${count} ${what}`)
  }
  // Of a node that was killed the lease runs out.
  if (nodes > 0 && world.ledger.harms.length === 0) violations.add('leftovers', `${nodes} nodes in the store`)
}
