import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Resolves as soon as `find` returns something; rejects with `what` in the message after `timeoutMs`. For what
 * has no signal to await: a file, another process, the far end of a connection.
 */
export async function until<T>(
  what: string | (() => string),
  find: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  timeoutMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const found = await find()
    if (found !== undefined && found !== null && found !== false) return found
    if (performance.now() > deadline) {
      throw new Error(`Waited ${timeoutMs} ms in vain for ${typeof what === 'string' ? what : what()}.`)
    }
    await sleep(5)
  }
}

/** Rejects when `promise` has not settled in time: a hang becomes a sentence. */
export async function within<T>(what: string, promise: Promise<T>, timeoutMs = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${timeoutMs} ms.`)), timeoutMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
