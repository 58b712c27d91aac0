import { type AppResponse, forEachChunk } from '../../app/app.ts'
import { eventReader, type SseEvent } from '../../sse.ts'
import type { StopSignal } from '../../stop.ts'

export interface PumpOptions {
  /** Called for each event with data, in order; the next one waits until what it returns has settled. */
  readonly onMessage: (data: string) => Promise<void> | undefined
  /** The app's own event ids, to resume there; each after its message. */
  readonly onId: (id: string) => void
  /** What to wait for while the store is behind; undefined: it is not. */
  readonly pace: () => Promise<void> | undefined
  readonly signal: StopSignal
}

/** Reads one event stream of the app to its end, or to where `signal` says stop. */
export async function pump(response: AppResponse, options: PumpOptions): Promise<void> {
  const { signal, pace } = options
  const read = eventReader()
  const forget = signal.onStop(() => response.cancel())
  try {
    await forEachChunk(response.body, (chunk) => {
      const dealt = deal(read(chunk), options)
      return dealt ? dealt.then(pace) : pace()
    })
  } finally {
    forget()
  }
}

/** One after the other, without a wait where none is needed. */
function deal(events: readonly SseEvent[], options: PumpOptions): Promise<void> | undefined {
  const { onMessage, onId, signal } = options
  for (const [i, { id, data }] of events.entries()) {
    if (signal.stopped) return undefined
    // Empty data is the app's priming event (or a bare id): nothing for a client.
    const dealt = data === '' ? undefined : onMessage(data)
    const done = () => {
      if (id !== undefined) onId(id)
    }
    if (dealt) return dealt.then(done).then(() => deal(events.slice(i + 1), options))
    done()
  }
  return undefined
}
