import type { Clock } from '../../clock.ts'

/** Bounds the bytes that are spent in any stretch of `span` ms: to `limit` at the most. */
export class Budget {
  readonly #limit: number
  readonly #span: number
  readonly #clock: Clock
  #since = 0
  #spent = 0
  /** In the span before: what was spent at its end still counts. */
  #before = 0

  constructor(limit: number, span: number, clock: Clock) {
    this.#limit = limit
    this.#span = span
    this.#clock = clock
  }

  /** False: it is not to be spent. */
  spend(bytes: number): boolean {
    const passed = this.#clock.now() - this.#since
    // The clock may have been set back.
    if (passed >= this.#span || passed < 0) {
      this.#before = passed >= 2 * this.#span ? 0 : this.#spent
      this.#since += passed
      this.#spent = 0
    }
    if (this.#before + this.#spent + bytes > this.#limit) return false
    this.#spent += bytes
    return true
  }
}
