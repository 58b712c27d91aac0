import { type App, type AppRequest, isAppGone, isEventStream } from '../../app/app.ts'
import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { StopSignal } from '../../stop.ts'
import { pump } from './read-app-stream.ts'

export interface TapOptions {
  readonly app: App
  /** A standalone GET in the name of whoever was last accepted by the app. */
  readonly request: (lastEventId: string | undefined) => AppRequest
  readonly onMessage: (data: string) => Promise<void> | void
  readonly pace: () => Promise<void>
  /** The app ended the stream (`closeStandaloneSSEStream`): the client's own is to end too. */
  readonly onCut: () => void
  /** The app, or the connection to it, is gone; or it has ended the stream and does not open it again. */
  readonly onBroken: () => void
  readonly signal: StopSignal
  readonly logger: Logger
}

/**
 * The owner's own standalone GET, open as long as the session is live, so that what the app sends outside of any call
 * is stored whether or not a client listens. Resolves when the app has answered the first GET.
 */
export async function openTap(options: TapOptions): Promise<void> {
  const { app, request, signal, logger } = options
  const connect = async (lastEventId?: string) => {
    try {
      // As in a call: what holds a connection has to let go of it at once.
      const forSocket = app.presence && signal
      const response = await app.fetch({ ...request(lastEventId), signal: forSocket })
      if (isEventStream(response)) return response
      response.cancel()
    } catch (error) {
      if (!signal.stopped && isAppGone(error)) options.onBroken()
      else if (!signal.stopped)
        logger.warn({ error: errorText(error) }, 'the standalone stream of the app cannot be read')
    }
    return undefined
  }

  const first = await connect()
  void (async () => {
    let response = first
    let lastEventId: string | undefined
    // Waits before it comes again, in ms: 0 after a stream that lived, then 50, 100, 200 … 5,000.
    let wait = 0
    while (response && !signal.stopped) {
      const since = monotonicNow()
      try {
        lastEventId = (await pump(response, options)) ?? lastEventId
      } catch (error) {
        if (!signal.stopped && isAppGone(error)) options.onBroken()
        else if (!signal.stopped)
          logger.warn({ error: errorText(error) }, 'the standalone stream of the app broke off')
      }
      if (signal.stopped) return
      options.onCut()
      wait = monotonicNow() - since > 1000 ? 0 : Math.min(wait * 2 + 50 * Number(wait === 0), 5000)
      if (wait > 50) await delay(wait)
      response = await connect(lastEventId)
      if (!response && !signal.stopped) options.onBroken()
    }
    response?.cancel()
  })()
}
