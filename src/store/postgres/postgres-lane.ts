import { withTimeout } from '../../clock.ts'
import type { PersistError } from '../../errors.ts'

/** How many operations of a kind may have a connection at the same time. Who comes later waits, first come, first served. */
export class Lane {
  /** Operations that have no connection yet. */
  waiting = 0
  readonly #queue = new Set<() => void>()
  #free: number

  constructor(size: number) {
    this.#free = size
  }

  async enter(ms: number, late: () => PersistError): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1
      return
    }
    let go = () => {}
    const turn = new Promise<void>((resolve) => {
      go = resolve
      this.#queue.add(go)
    })
    try {
      await withTimeout(turn, ms, late)
    } catch (error) {
      // Its turn may have come at the very moment when its time was over.
      if (!this.#queue.delete(go)) this.leave()
      throw error
    }
  }

  leave(): void {
    const [next] = this.#queue
    if (!next) {
      this.#free += 1
      return
    }
    this.#queue.delete(next)
    next()
  }
}
