import { randomUUID } from 'node:crypto'
import type { StoredEvent } from '../../store/port.ts'

/** The stream of the standalone GET, by the name that the SDK gives it in every session. */
export const STANDALONE = '_GET_stream'

/** 72 random bits. UUIDs are drawn from a supply; asked for each time, the system would take longer than the rest of a request. */
export function newStreamId(): string {
  const uuid = randomUUID()
  return Buffer.from(uuid.slice(0, 8) + uuid.slice(-10), 'hex').toString('base64url')
}

/** Where a stream is to be followed from. */
export interface StreamRef {
  readonly streamId: string
  readonly after: number
  readonly epoch?: string | undefined
  readonly fresh?: boolean
  /** Of a fresh one: its record, which was stored before anybody followed. */
  readonly opened?: Update | undefined
  readonly finite?: boolean
  readonly priming: boolean
}

/** Events just stored in one stream; `before` is the stream's position before them, undefined when nobody knows. */
export interface Update {
  readonly streamId: string
  readonly before: number | undefined
  readonly events: readonly StoredEvent[]
  readonly epoch: string
}

/** Does the stream end with these? */
export function isLast({ events }: Update): boolean {
  const last = events.at(-1)?.kind
  return last === 'final' || last === 'end'
}
