import { isPersistError, PersistError } from '../../errors.ts'

interface Waiting<T, R> {
  readonly item: T
  readonly size: number
  readonly resolve: (result: R) => void
  readonly reject: (error: unknown) => void
}

/** What became of one item of a batch. */
export type Outcome<R> = { readonly ok: R } | { readonly error: unknown }

/** Items that may wait for a store, of one kind. */
export const MAX_WAITING = 10_000
/** Bytes that may wait for a store or be on their way to it, of one kind of item. */
export const MAX_WAITING_BYTES = 256 * 1024 * 1024
/** Bytes of one statement, script or transaction. Far below the longest string that V8 can build (512 MiB). */
export const MAX_BATCH_BYTES = 16 * 1024 * 1024

export interface GroupCommitOptions<T> {
  /** Items in one batch at the most. Default 512. */
  readonly maxBatch?: number
  /** Items that may wait before `add` rejects with `OVERLOADED`. Default {@link MAX_WAITING}. */
  readonly maxWaiting?: number
  /** About how many bytes an item takes. Default 0: the bounds in bytes do not apply. */
  readonly sizeOf?: (item: T) => number
  /** Bytes in one batch at the most; what is larger by itself travels alone. Default {@link MAX_BATCH_BYTES}. */
  readonly maxBatchBytes?: number
  /**
   * Bytes that may wait or be under way before `add` rejects with `OVERLOADED`; one item is always let in.
   * Default {@link MAX_WAITING_BYTES}.
   */
  readonly maxBytes?: number
  /** Called for each item that was let in, when its promise settles. */
  readonly onSettled?: (item: T) => void
}

type Flush<T, R> = (items: readonly T[]) => Promise<readonly Outcome<R>[]> | readonly Outcome<R>[]

/**
 * Group commit: what is added in one turn of the event loop, or while the batch before is on its way, travels
 * together. One batch is under way at a time, so batches take effect in the order of the calls; each caller's promise
 * settles with its own item's outcome, and no earlier.
 *
 * When the store is away, whatever waits behind a rejected item is rejected with it: stored after all, it would stand
 * before what its caller had said first, and it would have to wait out the same time limit only to learn the same.
 */
export class GroupCommit<T, R> {
  readonly #flush: Flush<T, R>
  readonly #maxBatch: number
  readonly #maxWaiting: number
  readonly #sizeOf: (item: T) => number
  readonly #maxBatchBytes: number
  readonly #maxBytes: number
  readonly #onSettled: ((item: T) => void) | undefined
  #waiting: Waiting<T, R>[] = []
  /** Of all that was added and has not settled. */
  #bytes = 0
  #running: Promise<void> | undefined

  /** `flush` stores one batch and answers with one outcome for each item, in order. */
  constructor(flush: Flush<T, R>, options: GroupCommitOptions<T> = {}) {
    this.#flush = flush
    this.#maxBatch = options.maxBatch ?? 512
    this.#maxWaiting = options.maxWaiting ?? MAX_WAITING
    this.#sizeOf = options.sizeOf ?? (() => 0)
    this.#maxBatchBytes = options.maxBatchBytes ?? MAX_BATCH_BYTES
    this.#maxBytes = options.maxBytes ?? MAX_WAITING_BYTES
    this.#onSettled = options.onSettled
  }

  /** Rejects with `OVERLOADED` at the bounds, else as the store says. */
  add(item: T): Promise<R> {
    const size = this.#sizeOf(item)
    const isFull = this.#waiting.length >= this.#maxWaiting
    if (isFull || (this.#bytes > 0 && this.#bytes + size > this.#maxBytes)) {
      const facts = `${this.#waiting.length} operations of ${this.#bytes} bytes are waiting for the store`
      return Promise.reject(
        new PersistError('OVERLOADED', `${facts}, which is the limit; it does not keep up.`),
      )
    }
    this.#bytes += size
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, size, resolve, reject })
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
      const batch = this.#waiting.splice(0, this.#batchLength())
      const outcomes = await this.#outcomesOf(batch.map(({ item }) => item))
      for (const [i, waiting] of batch.entries()) this.#settle(waiting, outcomes[i]!)
      const away = awayIn(outcomes)
      if (away) for (const waiting of this.#waiting.splice(0)) this.#settle(waiting, away)
    }
    this.#running = undefined
  }

  #batchLength(): number {
    let bytes = 0
    let length = 0
    for (const { size } of this.#waiting) {
      bytes += size
      if (length === this.#maxBatch || (length > 0 && bytes > this.#maxBatchBytes)) break
      length += 1
    }
    return length
  }

  #settle({ item, size, resolve, reject }: Waiting<T, R>, outcome: Outcome<R>): void {
    this.#bytes -= size
    this.#onSettled?.(item)
    if ('error' in outcome) reject(outcome.error)
    else resolve(outcome.ok)
  }

  async #outcomesOf(items: readonly T[]): Promise<readonly Outcome<R>[]> {
    try {
      const outcomes = await this.#flush(items)
      return items.map((_, i) => outcomes[i] ?? UNTOLD)
    } catch (error) {
      return items.map(() => ({ error }))
    }
  }
}

/** A backend that answers for fewer items than it was given leaves nobody waiting. */
const UNTOLD = {
  error: new PersistError('STORE_UNAVAILABLE', 'The store did not say what became of this operation.'),
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
