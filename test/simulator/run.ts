import { chaos } from './chaos.ts'
import { ALL_INGREDIENTS, choose, type Ingredient } from './ingredients.ts'
import type { Violation } from './invariants/violations.ts'
import { life, pry } from './life.ts'
import { type Source, surround } from './load-source.ts'
import { Random } from './random.ts'
import { PATIENCE, World } from './world.ts'

export interface RunOptions {
  readonly source: Source
  readonly seed: number
  readonly trace?: boolean
  /** In any case part of the world. */
  readonly with?: readonly Ingredient[]
  /** Never part of it. */
  readonly without?: readonly Ingredient[]
  /** Nothing else is part of it. */
  readonly only?: readonly Ingredient[] | undefined
}

export interface Ran {
  readonly seed: number
  readonly ingredients: readonly Ingredient[]
  readonly violations: readonly Violation[]
  readonly trace: readonly string[]
  readonly turns: number
  /** Milliseconds of the world. */
  readonly took: number
}

/** One world, from its seed to its end. */
export async function run(options: RunOptions): Promise<Ran> {
  const { source, seed, trace = false, with: always = [], without = [], only } = options
  const allowed = ALL_INGREDIENTS.filter((each) => !without.includes(each) && (only?.includes(each) ?? true))
  const has = choose(new Random(seed), allowed, always)
  const world = new World({ source, seed: seed + 1_000_000, has, trace })
  surround({ time: world.time, keys: 0 })
  const stray = (reason: unknown) => world.violations.add('throws', `nobody caught ${text(reason)}`)
  process.on('unhandledRejection', stray)
  try {
    await world.time.run(() => live(world), 600_000)
  } catch (error) {
    world.violations.add('throws', text(error))
  } finally {
    process.off('unhandledRejection', stray)
  }
  return {
    seed,
    ingredients: [...has],
    violations: world.violations.list,
    trace: world.trace.lines,
    turns: world.time.turns,
    took: world.time.now,
  }
}

async function live(world: World): Promise<void> {
  const { time, random, faults } = world
  for (let i = random.between(1, 3); i > 0; i -= 1) world.addNode()
  const lives = Array.from({ length: random.between(1, 2) }, (_, i) => {
    const client = world.addClient(`user-${i}`)
    return new Promise<void>((resolve, reject) => {
      time.after(random.between(0, 50), () => void life(world, client).then(resolve, reject), client.process)
    })
  })
  if (world.has.has('strangers') && world.has.has('principal')) {
    const stranger = world.addClient('mallory', true)
    lives.push(
      new Promise((resolve, reject) => {
        time.after(
          20,
          () => void pry(world, world.clients[0]!, stranger).then(resolve, reject),
          stranger.process,
        )
      }),
    )
  }
  const over = Promise.all(lives).then(() => true)
  const blows = chaos(world)
  await Promise.race([blows, over])
  faults.calm = true
  world.trace.say('world', 'is calm')
  const ended = await Promise.race([over, time.sleep(PATIENCE).then(() => false)])
  if (!ended) {
    const waiting = world.clients.flatMap(({ waiting, cannotResume }) => (cannotResume ? [] : [...waiting]))
    if (waiting.length > 0)
      world.violations.add('ends', `after ${PATIENCE} ms of calm: ${waiting.join('; ')}`)
    return
  }
  // Clients may be done before all has happened that will: what is left is looked at when nothing goes wrong any more.
  await blows
  await world.end()
}

function text(reason: unknown): string {
  return reason instanceof Error ? `${reason.message}\n${reason.stack}` : String(reason)
}
