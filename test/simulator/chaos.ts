import type { Ingredient } from './ingredients.ts'
import { LEASE, type World } from './world.ts'

type Blow = (world: World) => Promise<void>

const BLOWS: Partial<Record<Ingredient, Blow>> = {
  kill: async (world) => world.kill(victim(world)),
  pause: (world) => pause(world, world.random.between(1, 100)),
  'pause-long': (world) => pause(world, LEASE * 1500),
  drain: async (world) => {
    world.addNode()
    const node = victim(world)
    if (!node.draining) world.closing.push(world.close(node))
  },
  add: async (world) => void world.addNode(),
  'store-away': async (world) => {
    const { random, time, alive } = world
    const long = random.chance(0.6)
    for (const { store } of alive) store.away = true
    await time.sleep(long ? LEASE * 1500 : random.between(1, 100))
    for (const { store } of alive) {
      store.away = false
      await time.sleep(random.between(0, 20))
    }
  },
  'store-away-for-one': async (world) => {
    const { random, time } = world
    const { store } = victim(world)
    const long = random.chance(0.5)
    if (long) world.harm()
    store.away = true
    await time.sleep(long ? LEASE * 1500 : random.between(1, 100))
    store.away = false
    if (long) world.harm()
  },
  'store-loses-moments': async (world) => {
    world.harm()
    const { server, random, time } = world
    await new Promise<void>((resolve) => {
      time.after(0, () => void server.restartWithout(random.between(1, 200)).then(resolve), server.process)
    })
  },
  'connections-drop': async (world) => victim(world).store.drop(world.random.between(1, 300)),
}

/** What happens to nodes and store, one blow after the other, for a while. */
export async function chaos(world: World): Promise<void> {
  const { random, time, has } = world
  const blows = Object.entries(BLOWS).filter(([ingredient]) => has.has(ingredient as Ingredient))
  const rounds = random.between(1, 6)
  for (let round = 0; round < rounds; round += 1) {
    await time.sleep(random.between(10, 400))
    if (blows.length === 0) continue
    const [name, blow] = random.pick(blows)
    world.trace.say('world', name)
    await blow(world)
  }
}

function victim(world: World) {
  return world.anyNode(world.random)
}

async function pause(world: World, ms: number): Promise<void> {
  const { process } = victim(world)
  if (process.stopped) return
  if (ms > LEASE * 500) world.harm()
  process.stopped = true
  await world.time.sleep(ms)
  world.time.resume(process)
  if (ms > LEASE * 500) world.harm()
}
