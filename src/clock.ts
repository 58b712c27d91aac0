/** Where a component reads the time, so that tests can own it. Milliseconds since the Unix epoch. */
export interface Clock {
  now(): number
}

export const systemClock: Clock = { now: () => Date.now() }

/**
 * Milliseconds that never run backwards, for measuring spans inside one process. A lease is trusted on this
 * clock only: the wall clock may be set while we look at it.
 */
export function monotonicNow(): number {
  return performance.now()
}

/**
 * Rejects with `error()` when `promise` takes longer than `ms`. The timer never keeps the process alive. A process that
 * was stopped, or busy, runs its timers before it reads its sockets: what has come meanwhile is read first.
 */
export function withTimeout<T>(promise: Promise<T>, ms: number, error: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => setImmediate(() => reject(error())), ms)
    timer.unref()
    promise.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (reason) => {
        clearTimeout(timer)
        reject(reason)
      },
    )
  })
}

/** A wait that does not keep the process alive. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref()
  })
}
