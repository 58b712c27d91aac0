import { batch } from './client/batch.ts'
import type { SimulatedClient } from './client/client.ts'
import { GONE_AFTER, LEASE, TTL, type World } from './world.ts'

/** What one client does, from opening a session to its end. */
export async function life(world: World, client: SimulatedClient): Promise<void> {
  const { time, has } = world
  const random = client.process.random
  await client.open()
  const listening =
    has.has('tool-asks-aside') ||
    // Plain JSON has no room for a question: it comes on the standalone stream.
    (has.has('tool-asks') && has.has('app-answers-json')) ||
    (has.has('client-listens') && random.chance(0.7))
      ? world.listening(client)
      : undefined
  const listens = listening?.run(() => time.sleep(random.between(1, 50)))
  const calls = Array.from({ length: random.between(1, 4) }, async (_, i) => {
    await time.sleep(random.between(0, 1000))
    await world.call(client, `${client.process.name}/${i + 1}`, random.fork()).run()
  })
  if (has.has('client-repeats-ids')) calls.push(repeatId(world, client))
  if (listening && has.has('client-opens-second-get')) {
    calls.push(time.sleep(random.between(0, 500)).then(() => listening.openAnother()))
  }
  if (has.has('client-batches')) {
    const { ledger, violations, writes } = world
    const now = () => time.now
    const isOutlived = (moment: number) => world.isOutlived(moment)
    const mayBeLost = () => has.has('store-loses-moments') || world.isUnstored(client.session!)
    const isForgotten = (from: number, to: number) => writes.isForgotten(from, to)
    const judge = { mayBeLost, isForgotten, isOutlived, now }
    calls.push(batch({ client, ledger, violations, random: random.fork(), ...judge }))
  }
  await Promise.all(calls)
  if (listening && has.has('client-stays')) {
    await time.sleep(TTL * 1500)
    await world.call(client, `${client.process.name}/late`, random.fork()).run()
  }
  await client.settled()
  await listening?.check(world)
  listening?.stop()
  await listens
  if (has.has('client-deletes') && random.chance(0.5)) await end(world, client)
  client.leave()
}

/** Whoever comes back when the session has expired learns that it is gone. Only when all is calm. */
export async function returnLate(world: World, client: SimulatedClient): Promise<void> {
  const gone = client.gone
  client.gone = true
  await client.insist('return late', async () => {
    const { status, how } = await client.ping(world.anyNode(client.process.random))
    if (how === 'ended' && status !== 404 && status !== 503) {
      world.violations.add('expires', `${status} ${GONE_AFTER} ms after the last use (deleted: ${gone})`)
      return true
    }
    return status === 404
  })
}

/** A session that its client has ended is gone at every node, at once. */
async function end(world: World, client: SimulatedClient): Promise<void> {
  const began = world.time.now
  if (!(await client.delete())) return
  for (const node of world.alive) {
    if (node.closed || node.process.stopped) continue
    const { status, how } = await client.ping(node)
    // A node that does not reach the store serves what it has.
    if (node.store.isAwaySince(began)) continue
    // The tombstone may be among what the store has lost; or the claim of an owner, which it notices within a lease.
    if (world.writes.forgotten.some(({ to }) => to >= began - LEASE * 1000)) return
    if (how === 'ended' && status !== 404 && status !== 503) {
      world.violations.add('truth', `${node.name} answered ${status} for a session that was ended`)
    }
  }
}

/** Two requests with one id at the same time: one of them may stay without an answer, and its client goes. */
async function repeatId(world: World, client: SimulatedClient): Promise<void> {
  const id = client.nextId()
  client.repeated.add(id)
  const request = (text: string) => ({ jsonrpc: '2.0', id, method: 'ping', params: { text } })
  const both = [client.post(request('first')), client.post(request('second'))]
  await Promise.race([Promise.all(both), world.time.sleep(300)])
}

/** Somebody else who knows the id of a session: nothing is to be had, and nothing happens to the session. */
export async function pry(world: World, client: SimulatedClient, stranger: SimulatedClient): Promise<void> {
  const { time, ledger, violations } = world
  const { random } = stranger.process
  const unknown = await stranger.pryAs('nobody')
  if (unknown.how === 'ended' && ![401, 503].includes(unknown.status!)) {
    violations.add('private', `whom the app refuses got ${unknown.status} for an unknown session`)
  }
  for (let i = 0; i < 3; i += 1) {
    await time.sleep(random.between(0, 500))
    if (client.session === undefined) continue
    stranger.session = client.session
    stranger.gone = true
    const name = `${stranger.process.name}/${i}`
    const called = ledger.call(name, [], false)
    const outcome = await stranger.pry(random.pick(['POST', 'GET', 'DELETE']), name)
    if (outcome.status === 200 || outcome.status === 202 || called.runs.length > 0) {
      violations.add('private', `${name} got ${outcome.status} in the session of ${client.process.name}`)
    }
  }
}
