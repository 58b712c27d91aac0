import { expect, test } from 'vitest'
import { type Event, LIFECYCLE, type State } from '../../src/session/ownership/lifecycle.ts'

/*
 * All that two nodes can do with one session, in every order: the table of the lifecycle, with the store's compare-and-set
 * beside it. A claim is three steps (look, compare and set, alive), a release two, a comeback after a lapsed lease two, and
 * anything of the other node may come in between.
 */
interface Node {
  readonly state: State
  /** The generation it looked at, before it claims. */
  readonly seen?: number | undefined
  /** The generation it writes in. */
  readonly generation?: number | undefined
  readonly alive: boolean
  /** Back under another id, and its session is not asked about yet. */
  readonly back?: boolean | undefined
}

interface World {
  readonly nodes: readonly [Node, Node]
  readonly generation: number
  /** Of a node that is back under another id the store knows only the old one. */
  readonly owner: 0 | 1 | 'old id' | null
}

/** Longer histories only repeat shorter ones under higher numbers. */
const MAX_GENERATION = 5

const START: World = {
  nodes: [
    { state: 'live', generation: 1, alive: true },
    { state: 'absent', alive: true },
  ],
  generation: 1,
  owner: 0,
}

function isToBeHad({ owner, nodes }: World, self: 0 | 1): boolean {
  return owner === null || owner === 'old id' || owner === self || !nodes[owner].alive
}

/** Does the store accept what this node appends? */
function writes({ generation }: World, node: Node): boolean {
  return (node.state === 'live' || node.state === 'leaving') && node.generation === generation
}

/** Every world that may come next. */
function next(world: World): World[] {
  return ([0, 1] as const).flatMap((self) => stepsOf(world, self))
}

function stepsOf(world: World, self: 0 | 1): World[] {
  const node = world.nodes[self]
  const worlds: World[] = []
  const put = (changed: Partial<Node>, store: Partial<Omit<World, 'nodes'>> = {}) => {
    const nodes = world.nodes.with(self, { ...node, ...changed }) as unknown as [Node, Node]
    worlds.push({ ...world, ...store, nodes })
  }
  const on = (event: Event) => {
    const [state, action] = LIFECYCLE[node.state][event]
    if (action === 'never') throw new Error(`A session that is ${node.state} cannot be ${event}.`)
    return { next: { state }, action }
  }

  // It is asked for; whoever looks before the claim may look at something that changes.
  if (node.alive && isToBeHad(world, self)) {
    const { next, action } = on('wanted')
    if (action === 'claim') put({ ...next, seen: world.generation })
  }
  if (node.seen !== undefined) {
    if (world.generation === node.seen && isToBeHad(world, self)) {
      const generation = world.generation + 1
      put({ seen: undefined, generation }, { generation, owner: self })
    } else put({ ...on('lost').next, seen: undefined })
  } else if (node.state === 'claiming' || node.state === 'doomed') {
    put(on('won').next)
    // It could not be brought to life: it is released and lost.
    put({ ...on('lost').next, generation: undefined }, freed(world, node))
  }
  if (node.state === 'leaving') put({ ...on('released').next, generation: undefined }, freed(world, node))
  for (const event of ['idle', 'leave'] as const) put(on(event).next)
  // It learns at its next append that somebody has followed.
  if (node.state === 'live' && !writes(world, node)) put({ ...on('lost').next, generation: undefined })

  if (node.alive && !node.back) put({ alive: false })
  if (!node.alive) put({ alive: true, back: true }, world.owner === self ? { owner: 'old id' } : {})
  if (node.back) {
    if (node.state !== 'live') put({ back: undefined })
    else if (world.generation === node.generation && isToBeHad(world, self))
      put({ back: undefined }, { owner: self })
    else put({ ...on('lost').next, back: undefined, generation: undefined })
  }
  return worlds
}

/** Compare and set: only the generation that gives it up. */
function freed(world: World, node: Node): Partial<World> {
  return world.generation === node.generation ? { owner: null } : {}
}

function explore(): Map<string, { world: World; next: string[] }> {
  const found = new Map<string, { world: World; next: string[] }>()
  const waiting = [START]
  for (let world = waiting.pop(); world; world = waiting.pop()) {
    const key = JSON.stringify(world)
    if (found.has(key)) continue
    const worlds = world.generation < MAX_GENERATION ? next(world) : []
    found.set(key, { world, next: worlds.map((each) => JSON.stringify(each)) })
    waiting.push(...worlds)
  }
  return found
}

const worlds = explore()

test('two nodes never write at the same time, whatever comes in between', () => {
  expect(worlds.size).toBeGreaterThan(1000)
  for (const [key, { world }] of worlds) {
    expect(world.nodes.filter((node) => writes(world, node)).length, key).toBeLessThanOrEqual(1)
  }
})

test('there is always a way on to a node that serves the session', () => {
  const served = ({ world }: { world: World }) =>
    world.nodes.some((node) => node.state === 'live' && node.alive && writes(world, node))
  // Where exploring ends, a way on is not seen.
  const good = new Set(
    [...worlds]
      .filter(([, each]) => served(each) || each.world.generation === MAX_GENERATION)
      .map(([key]) => key),
  )
  for (let before = -1; before < good.size; ) {
    before = good.size
    for (const [key, each] of worlds) if (each.next.some((to) => good.has(to))) good.add(key)
  }
  expect([...worlds.keys()].filter((key) => !good.has(key))).toEqual([])
})

test('whoever waits for a claim or a release to be over waits for a few steps of that node alone', () => {
  const isSettled = (state: State) => state === 'absent' || state === 'live'
  const settles = (world: World, self: 0 | 1, steps: number): boolean =>
    isSettled(world.nodes[self].state) ||
    (steps > 0 && stepsOf(world, self).some((to) => settles(to, self, steps - 1)))
  for (const [key, { world }] of worlds) {
    for (const self of [0, 1] as const)
      if (!settles(world, self, 3)) throw new Error(`Node ${self} is stuck: ${key}`)
  }
})

test('each state is met, and each event in some state', () => {
  const states = new Set([...worlds.values()].flatMap(({ world }) => world.nodes.map(({ state }) => state)))
  expect([...states].sort()).toEqual(Object.keys(LIFECYCLE).sort())
})
