import type { Ingredient } from '../ingredients.ts'
import type { Random } from '../random.ts'
import type { Time } from '../time.ts'

/** What happens to one operation of the store on its way. */
export interface Passage {
  /** Milliseconds there and back. */
  readonly there: number
  readonly back: number
  readonly fails?: 'before' | 'after' | 'half' | undefined
  readonly twice?: boolean
}

/** What the port lets a driver repeat behind its caller's back. */
const REPEATABLE = new Set([
  'log.read',
  'sessions.get',
  'sessions.touch',
  'nodes.renew',
  'nodes.get',
  'nodes.list',
  'nodes.unregister',
])

/**
 * Faults of the store and of what travels between nodes, as the world's ingredients have them. They stop when the world
 * calms down: then whatever hangs has no excuse.
 */
export class Faults {
  readonly #time: Time
  readonly #random: Random
  readonly #has: ReadonlySet<Ingredient>
  calm = false
  /** When the last of them happened. */
  last = 0

  constructor(time: Time, random: Random, has: ReadonlySet<Ingredient>) {
    this.#time = time
    this.#random = random
    this.#has = has
  }

  passage(operation: string): Passage {
    const random = this.#random
    // What goes out by one connection keeps its order.
    const there = operation.startsWith('bus.') ? 0.5 : random.next()
    const back = random.next() + (this.#has.has('store-out-of-order') ? random.next() * 10 : 0)
    if (this.calm) return { there, back }
    const fails = this.#failure(operation)
    if (fails) return { there, back: random.chance(0.5) ? back : random.between(10, 1000), fails }
    if (this.#hits('store-slow', 0.03))
      return { there: random.between(1, 1000), back: random.between(1, 1000) }
    const twice = REPEATABLE.has(operation) && this.#hits('store-repeats', 0.1)
    return { there, back, twice }
  }

  /** How often, and after how many milliseconds each, a message arrives. */
  deliveries(): readonly number[] {
    const random = this.#random
    const soon = 0.5
    if (this.calm) return [soon]
    if (this.#hits('messages-lost', 0.2)) return []
    if (this.#hits('messages-doubled', 0.2)) return [soon, random.between(0, 300)]
    if (this.#hits('messages-late', 0.2)) return [random.between(1, 400)]
    return [soon]
  }

  firstSubscriptionFails(): boolean {
    return !this.calm && this.#hits('first-subscription-fails', 0.5)
  }

  #failure(operation: string): Passage['fails'] {
    if (this.#hits('store-fails-before', 0.03)) return 'before'
    if (this.#hits('store-fails-after', 0.03)) return 'after'
    if (operation === 'log.append' && this.#hits('store-cuts-batches', 0.05)) return 'half'
    return undefined
  }

  #hits(ingredient: Ingredient, share: number): boolean {
    if (!this.#has.has(ingredient) || !this.#random.chance(share)) return false
    this.last = this.#time.now
    return true
  }
}
