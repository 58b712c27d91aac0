export interface Frame {
  readonly id?: string
  readonly data?: string
  readonly retry?: number
  /** Why something is missing before what comes. */
  readonly gap?: string
}

/** What a client makes of an event stream that comes in pieces. Only whole frames count. */
export class SseReader {
  #rest = ''

  read(text: string): Frame[] {
    this.#rest += text
    const frames = this.#rest.split('\n\n')
    this.#rest = frames.pop()!
    return frames.map(toFrame)
  }
}

function toFrame(text: string): Frame {
  const frame: { id?: string; data?: string; retry?: number; gap?: string } = {}
  for (const line of text.split('\n')) {
    if (line.startsWith('id: ')) frame.id = line.slice(4)
    else if (line.startsWith('data: ')) frame.data = line.slice(6)
    else if (line.startsWith('retry: ')) frame.retry = Number(line.slice(7))
    else if (line.startsWith(': gap ')) frame.gap = line.slice(6)
  }
  return frame
}
