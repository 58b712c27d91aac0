import type { App, AppRequest, AppResponse } from '../../app/app.ts'
import { Stop, type StopSignal } from '../../stop.ts'

/** The app did not answer, in the time that we have for it. */
export class AppSilent extends Error {
  constructor() {
    super('The app did not answer in time.')
  }
}

export interface Patience {
  /** Milliseconds. */
  readonly patience: number
  /** Nobody wants the answer any more. */
  readonly signal?: StopSignal | undefined
  /** Takes an answer that comes late, for a while: it tells of something that was made. Otherwise the app is told at once. */
  readonly late?: (response: AppResponse) => void
}

// Milliseconds that an answer may be late.
const LATE = 30_000

/**
 * Asks the app something of our own. Rejects with `AppSilent` when it does not answer in time, or when nobody wants the
 * answer any more; the app is told, and an answer that comes late is not left open.
 */
export function askApp(
  app: App,
  request: AppRequest,
  { patience, signal, late }: Patience,
): Promise<AppResponse> {
  const gone = new Stop()
  const asked = app.fetch({ ...request, signal: gone })
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      reject(new AppSilent())
      asked.then(late ?? ((response) => response.cancel()), () => {})
      if (!late) return gone.stop()
      clearTimeout(timer)
      timer = setTimeout(() => gone.stop(), LATE)
      timer.unref()
    }
    let timer = setTimeout(giveUp, patience)
    timer.unref()
    const forget = signal?.onStop(giveUp)
    asked.then(resolve, reject).finally(() => {
      clearTimeout(timer)
      forget?.()
    })
  })
}

/** The same for a request of the client, which has no limit but `signal`: an answer that comes later is not left open. */
export function stoppable(asked: Promise<AppResponse>, signal: StopSignal | undefined): Promise<AppResponse> {
  if (!signal) return asked
  return new Promise((resolve, reject) => {
    const forget = signal.onStop(() => {
      reject(new Error('The call was stopped.'))
      asked.then(
        (late) => late.cancel(),
        () => {},
      )
    })
    asked.then(resolve, reject).finally(forget)
  })
}
