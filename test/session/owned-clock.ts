import { vi } from 'vitest'

const OURS = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'setImmediate',
  'clearImmediate',
  'performance',
  'Date',
] as const

/** Runs `work` on a clock that goes as fast as nothing is left to do, `limit` ms of it at the most. */
export async function onOwnedClock(limit: number, work: () => Promise<void>): Promise<void> {
  vi.useFakeTimers({ toFake: [...OURS] })
  try {
    let over = false
    const working = work().finally(() => {
      over = true
    })
    // Whatever it is rejected with is thrown below.
    working.catch(() => {})
    for (let passed = 0; !over; passed += 10) {
      if (passed > limit) throw new Error(`It was not over after ${limit} ms.`)
      await vi.advanceTimersByTimeAsync(10)
    }
    await working
  } finally {
    vi.useRealTimers()
  }
}
