import { isPersistError, PersistError } from '../../errors.ts'

interface Waiting<T, R> {
  readonly item: T
  readonly resolve: (result: R) => void
  readonly reject: (error: unknown) => void
}

/** What became of one item of a batch. */
export type Outcome<R> = { readonly ok: R } | { readonly error: unknown }

export interface GroupOptions {
  /** Items in one batch at the most. Default 512. */
  readonly maxBatch?: number
  /** Items that may wait before `add` rejects with `OVERLOADED`. Default 10,000. */
  readonly maxWaiting?: number
}

/**
 * Group commit: what is added in one turn of the event loop, or while the batch before is on its way, travels
 * together. One batch is under way at a time, so batches take effect in the order of the calls; each caller's promise
 * settles with its own item's outcome, and no earlier.
 *
 * When the store is away, whatever waits behind a rejected item is rejected with it: stored after all, it would stand
 * before what its caller had said first, and it would have to wait out the same time limit only to learn the same.
 */
export class Group<T, R> {
  readonly #flush: (items: readonly T[]) => Promise<readonly Outcome<R>[]> | readonly Outcome<R>[]
  readonly #maxBatch: number
  readonly #maxWaiting: number
  #waiting: Waiting<T, R>[] = []
  #running: Promise<void> | undefined

  constructor(
    flush: (items: readonly T[]) => Promise<readonly Outcome<R>[]> | readonly Outcome<R>[],
    { maxBatch = 512, maxWaiting = 10_000 }: GroupOptions = {},
  ) {
    this.#flush = flush
    this.#maxBatch = maxBatch
    this.#maxWaiting = maxWaiting
  }

  add(item: T): Promise<R> {
    if (this.#waiting.length >= this.#maxWaiting) {
      const facts = `${this.#waiting.length} operations are waiting for the store`
      return Promise.reject(
        new PersistError('OVERLOADED', `${facts}, the most that may; it does not keep up.`),
      )
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when everything added so far has settled. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running
  }

  async #run(): Promise<void> {
    // The rest of this turn's items arrive before setImmediate does.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#maxBatch)
      const outcomes = await this.#outcomesOf(batch.map(({ item }) => item))
      batch.forEach(({ resolve, reject }, i) => {
        const outcome = outcomes[i]!
        if ('error' in outcome) reject(outcome.error)
        else resolve(outcome.ok)
      })
      const away = awayIn(outcomes)
      if (away) for (const { reject } of this.#waiting.splice(0)) reject(away.error)
    }
    this.#running = undefined
  }

  async #outcomesOf(items: readonly T[]): Promise<readonly Outcome<R>[]> {
    try {
      return await this.#flush(items)
    } catch (error) {
      return items.map(() => ({ error }))
    }
  }
}

/** The outcome that says that the store was away, if there is one. */
export function awayIn(
  outcomes: Iterable<Outcome<unknown> | undefined>,
): { readonly error: unknown } | undefined {
  for (const outcome of outcomes) {
    if (outcome && 'error' in outcome && isPersistError(outcome.error, 'STORE_UNAVAILABLE')) return outcome
  }
  return undefined
}
