import { formatEventId, parseEventId } from '../event-id.ts'
import { DEFAULT_TTL, type EventLog, type SessionEventStore, type SessionEventStoreOptions } from '../port.ts'
import { replay } from '../replay.ts'

/**
 * What the SDK primes a stream with: a resume point, but never a message. It is no `open`: streams of the SDK have no
 * end, and would be open for ever.
 */
const PRIMING = '{}'

/**
 * The SDK's `EventStore` over one session's log: what `store.forSession(id)` returns. The session is bound here, so
 * that two sessions that both write the stream `_GET_stream` never meet.
 */
export function sessionEventStore(
  log: EventLog,
  sessionId: string,
  { ttl = DEFAULT_TTL, onGap }: SessionEventStoreOptions,
): SessionEventStore {
  return {
    async storeEvent(streamId, message) {
      const payload = JSON.stringify(message)
      const event = { streamId, kind: 'message', payload } as const
      const { positions, epoch } = await log.append({ sessionId, events: [event], ttl: ttl * 1000 })
      return formatEventId(sessionId, { streamId, position: positions[0]!, epoch })
    },

    async getStreamIdForEventId(eventId) {
      return parseEventId(sessionId, eventId)?.streamId
    },

    async replayEventsAfter(lastEventId, { send }) {
      const cursor = parseEventId(sessionId, lastEventId)
      if (!cursor) return ''
      const { streamId } = cursor
      const events = replay(log, sessionId, cursor, {
        onGap: (reason) => onGap?.({ sessionId, streamId, reason }),
      })
      for await (const { kind, payload, position, epoch } of events) {
        if ((kind !== 'message' && kind !== 'final') || payload === PRIMING) continue
        const message = parseMessage(payload)
        if (message === undefined) onGap?.({ sessionId, streamId, reason: 'corrupt' })
        else await send(formatEventId(sessionId, { streamId, position, epoch }), message as never)
      }
      return streamId
    },
  }
}

function parseMessage(payload: string): unknown {
  try {
    return JSON.parse(payload)
  } catch {
    return undefined
  }
}
