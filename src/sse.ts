import { StringDecoder } from 'node:string_decoder'
import { createParser } from 'eventsource-parser'

/** Where an event stream to a client is written. */
export interface Sink {
  /** False: the client is slow; wait for `onDrain`. */
  write(text: string): boolean
  end(text?: string): void
  /** Lets the client know that the stream is open, though there is nothing to say yet. */
  flush(): void
  onDrain: (() => void) | undefined
}

export interface SseEvent {
  readonly id?: string | undefined
  readonly event?: string | undefined
  readonly data: string
}

/** One event with a JSON-RPC message in it; without an id where it cannot be resumed after. */
export function messageFrame(payload: string, id?: string): string {
  // JSON on one line, as everybody sends it, goes out as it is.
  const data = /[\r\n]/.test(payload) ? payload.replace(/\r\n|\r|\n/g, '\ndata: ') : payload
  return id === undefined
    ? `event: message\ndata: ${data}\n\n`
    : `event: message\nid: ${id}\ndata: ${data}\n\n`
}

/** An id and empty data, so that a client can resume before the first message (MCP 2025-11-25, "Sending Messages"). */
export function primingFrame(id: string, retry: number | undefined): string {
  return retry === undefined ? `id: ${id}\ndata: \n\n` : `id: ${id}\nretry: ${retry}\ndata: \n\n`
}

export function retryFrame(retry: number): string {
  return `retry: ${retry}\n\n`
}

/** A comment: clients that know nothing of it pass it over. */
export function gapFrame(reason: string): string {
  return `: gap ${reason}\n\n`
}

export const KEEP_ALIVE_FRAME = ': keepalive\n\n'

/** Reads an event stream: takes its chunks, and returns the events that each of them completes. */
export function eventReader(): (chunk: Uint8Array) => readonly SseEvent[] {
  let events: SseEvent[] = []
  let begun = false
  const parser = createParser({ onEvent: (event) => events.push(event) })
  const decoder = new StringDecoder('utf8')
  return (chunk) => {
    let text = decoder.write(chunk as Buffer)
    // A byte order mark at the start is no part of it (HTML, "Server-sent events", "Parsing an event stream").
    if (!begun && text.startsWith('\ufeff')) text = text.slice(1)
    begun ||= text !== ''
    parser.feed(text)
    if (events.length === 0) return NONE
    const read = events
    events = []
    return read
  }
}

const NONE: readonly SseEvent[] = []
