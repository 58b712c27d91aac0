import { monotonicNow } from '../../clock.ts'

// The oldest are forgotten first; a session that is gone from here is then gone from the app as well, as a rule.
const MAX_LEFT = 100_000

/**
 * The ids by which sessions can be reached in the app of this process: the client's and the app's own, while a session is
 * live here, and for a ttl after it has left, as long as the app may still know it.
 */
export class HeldIds {
  readonly #ttl: number
  readonly #held = new Set<string>()
  /** When they left (monotonic ms), the oldest first. */
  readonly #left = new Map<string, number>()

  /** `ttl` in ms. */
  constructor(ttl: number) {
    this.#ttl = ttl
  }

  hold(...ids: readonly string[]): void {
    for (const id of ids) {
      this.#held.add(id)
      this.#left.delete(id)
    }
  }

  leave(...ids: readonly string[]): void {
    const now = monotonicNow()
    for (const id of ids) {
      if (this.#held.delete(id)) this.#left.set(id, now)
    }
    for (const [id, since] of this.#left) {
      if (this.#left.size <= MAX_LEFT && now - since < this.#ttl) break
      this.#left.delete(id)
    }
  }

  has(id: string): boolean {
    const since = this.#left.get(id)
    return this.#held.has(id) || (since !== undefined && monotonicNow() - since < this.#ttl)
  }
}
