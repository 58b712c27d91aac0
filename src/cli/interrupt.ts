import { PersistError } from '../errors.ts'

const controller = new AbortController()

/** Aborted by ctrl-C, SIGTERM, or when nobody reads our output any more. */
export const interrupt = controller.signal

/** The first ctrl-C lets the command close its store; the second one ends the process where it stands. */
export function catchSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort(signal))
  // `mcp-persist events … | head`: the reader has seen enough, which is no error.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      controller.abort('EPIPE')
    })
  }
}

export function stopped(): boolean {
  return interrupt.aborted
}

/** Rejects when the command is interrupted before `work` is done. */
export function orInterrupted<T>(work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(interrupted())
    interrupt.addEventListener('abort', stop, { once: true })
    work.then(resolve, reject).finally(() => interrupt.removeEventListener('abort', stop))
    if (interrupt.aborted) stop()
  })
}

/** What was done so far stays done. */
export function interrupted(): Error {
  return new PersistError('STORE_CLOSED', 'Interrupted; what was done until now stays done.')
}

/** Resolves after `ms`, or at once when interrupted. Keeps the process alive. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      interrupt.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    interrupt.addEventListener('abort', done)
    if (interrupt.aborted) done()
  })
}
