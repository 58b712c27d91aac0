import type { AppResponse, HeaderPairs } from '../../../src/app/app.ts'

/** What an app sends, as it sends it. */
export class Body implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  #chunks: Uint8Array[] = []
  #waiting: ((next: IteratorResult<Uint8Array>) => void) | undefined
  #refuse: ((error: Error) => void) | undefined
  #error: Error | undefined
  #over = false
  readonly #onOver: () => void

  constructor(onOver: () => void) {
    this.#onOver = onOver
  }

  get over(): boolean {
    return this.#over
  }

  push(text: string): void {
    if (this.#over) return
    const chunk = Buffer.from(text)
    if (!this.#waiting) return void this.#chunks.push(chunk)
    this.#waiting({ done: false, value: chunk })
    this.#waiting = undefined
  }

  /** The app has ended it, or its reader has gone. */
  end(): void {
    if (this.#over) return
    this.#over = true
    this.#onOver()
    this.#waiting?.({ done: true, value: undefined })
    this.#waiting = undefined
  }

  breakOff(): void {
    if (this.#over) return
    this.#error = new Error('socket hang up')
    this.#over = true
    this.#onOver()
    if (this.#waiting) this.#refuse!(this.#error)
    this.#waiting = undefined
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const value = this.#chunks.shift()
    if (value) return Promise.resolve({ done: false, value })
    if (this.#error) return Promise.reject(this.#error)
    if (this.#over) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiting = resolve
      this.#refuse = reject
    })
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    this.end()
    return Promise.resolve({ done: true, value: undefined })
  }
}

const STREAM = ['content-type', 'text/event-stream'] as const
const JSON_BODY = ['content-type', 'application/json'] as const

export function streamOf(body: Body, headers: HeaderPairs = []): AppResponse {
  return { status: 200, headers: [STREAM, ...headers], body, cancel: () => body.end() }
}

export function jsonOf(value: object, headers: HeaderPairs = []): AppResponse {
  return whole(200, JSON.stringify(value), [JSON_BODY, ...headers])
}

export function whole(status: number, text = '', headers: HeaderPairs = []): AppResponse {
  const body = new Body(() => {})
  if (text !== '') body.push(text)
  body.end()
  return { status, headers, body, cancel() {} }
}
