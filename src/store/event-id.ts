import { createHash } from 'node:crypto'

/**
 * The cursor behind an event id. The id on the wire is `<position>.<epoch>.<tag>.<stream>`: opaque to clients,
 * unique in its session (MCP 2025-11-25, Transports, "Resumability and Redelivery"), and bound to the session by
 * the tag, so that an id of another session is refused without a look into the store.
 */
export interface Cursor {
  readonly streamId: string
  readonly position: number
  readonly epoch: string
}

const MAX_LENGTH = 2048

export function formatEventId(sessionId: string, cursor: Cursor): string {
  return `${cursor.position.toString(36)}.${cursor.epoch}.${sessionTag(sessionId)}.${encodeURIComponent(cursor.streamId)}`
}

/** Undefined for anything that `formatEventId` did not make for this very session. Never throws. */
export function parseEventId(sessionId: string, eventId: string): Cursor | undefined {
  if (eventId.length > MAX_LENGTH) return undefined
  const match = /^([0-9a-z]{1,11})\.([0-9A-Za-z]{1,32})\.([\w-]{8})\.(.*)$/.exec(eventId)
  if (!match) return undefined
  const [, digits, epoch, tag, encoded] = match as unknown as [string, string, string, string, string]
  if (tag !== sessionTag(sessionId)) return undefined
  const position = Number.parseInt(digits, 36)
  if (!Number.isSafeInteger(position)) return undefined
  try {
    const streamId = decodeURIComponent(encoded)
    // Only the canonical spelling is ours: one event, one id.
    return formatEventId(sessionId, { streamId, position, epoch }) === eventId
      ? { streamId, position, epoch }
      : undefined
  } catch {
    return undefined
  }
}

// One session is asked again and again: the last few hundred tags are kept.
const tags = new Map<string, string>()

function sessionTag(sessionId: string): string {
  let tag = tags.get(sessionId)
  if (tag === undefined) {
    tag = createHash('sha256').update(sessionId).digest('base64url').slice(0, 8)
    if (tags.size >= 4096) tags.clear()
    tags.set(sessionId, tag)
  }
  return tag
}
