import type { AppResponse } from '../../app/app.ts'
import { readEvents } from '../../sse.ts'
import type { StopSignal } from '../../stop.ts'

export interface PumpOptions {
  /** Called for each event with data, in order; the next one waits until it has settled. */
  readonly onMessage: (data: string) => Promise<void> | void
  /** The app's own event ids, to resume there; each after its message. */
  readonly onId?: (id: string) => void
  /** Waits while the store is behind. */
  readonly pace: () => Promise<void>
  readonly signal: StopSignal
}

/** Reads one event stream of the app to its end; resolves with the app's own last event id, to resume there. */
export async function pump(response: AppResponse, options: PumpOptions): Promise<string | undefined> {
  const { onMessage, onId, pace, signal } = options
  let lastId: string | undefined
  const forget = signal.onStop(() => response.cancel())
  try {
    for await (const events of readEvents(response.body)) {
      for (const { id, data } of events) {
        if (signal.stopped) return lastId
        // Empty data is the app's priming event (or a bare id): nothing for a client.
        if (data !== '') await onMessage(data)
        if (id === undefined) continue
        lastId = id
        onId?.(id)
      }
      await pace()
    }
    return lastId
  } finally {
    forget()
  }
}
