import type { AppResponse } from '../../../src/app/app.ts'
import { Body, streamOf } from './body.ts'

/** A stream of the app: what was sent on it stays, so that a client (the engine) that was cut can resume. */
export class AppStream {
  readonly name: string
  readonly #events: string[] = []
  readonly #opened: (by: number) => void
  #body: Body | undefined
  #over = false

  constructor(name: string, opened: (by: number) => void) {
    this.name = name
    this.#opened = opened
  }

  /** Has anything been said on it? */
  get spoken(): boolean {
    return this.#events.length > 0
  }

  get listening(): boolean {
    return this.#body !== undefined && !this.#body.over
  }

  /** The response of the first request, or of one that resumes after `after`. */
  open(after = -1): AppResponse {
    this.#body?.end()
    const body = new Body(() => this.#opened(-1))
    this.#opened(1)
    this.#body = body
    if (after < 0) body.push(`id: ${this.name}|0\ndata: \n\n`)
    for (const event of this.#events.slice(Math.max(0, after))) body.push(event)
    if (this.#over) body.end()
    return streamOf(body)
  }

  send(message: object): void {
    const data = JSON.stringify({ jsonrpc: '2.0', ...message })
    const event = `event: message\nid: ${this.name}|${this.#events.length + 1}\ndata: ${data}\n\n`
    this.#events.push(event)
    this.#body?.push(event)
  }

  /** `closeSSEStream`: the response ends and the stream does not. */
  cut(): void {
    this.#body?.end()
  }

  end(): void {
    this.#over = true
    this.#body?.end()
  }

  breakOff(): void {
    this.#over = true
    this.#body?.breakOff()
  }
}

/** One session of the app's own, in the memory of its process. */
export class AppSession {
  readonly id: string
  readonly user: string | undefined
  readonly streams = new Map<string, AppStream>()
  readonly standalone: AppStream
  /** Its own requests that wait for an answer. Numbered from 0, as every instance of a server does. */
  readonly #asked = new Map<number, (answer: unknown) => void>()
  #questions = 0
  /** Ids of requests that run, and of those that were cancelled. */
  readonly running = new Set<string | number>()
  readonly cancelled = new Set<string | number>()
  initialized = false

  constructor(id: string, user: string | undefined, opened: (by: number) => void) {
    this.id = id
    this.user = user
    this.standalone = new AppStream('standalone', opened)
    this.streams.set('standalone', this.standalone)
  }

  ask(stream: AppStream, question: string): Promise<unknown> {
    const id = this.#questions
    this.#questions += 1
    const params = { messages: [{ role: 'user', content: { type: 'text', text: question } }], maxTokens: 10 }
    return new Promise((resolve) => {
      this.#asked.set(id, resolve)
      stream.send({ id, method: 'sampling/createMessage', params })
    })
  }

  answered(id: unknown, answer: unknown): void {
    const resolve = this.#asked.get(id as number)
    this.#asked.delete(id as number)
    resolve?.(answer)
  }

  /** Of a request that is not running (yet) it means nothing, as in the SDK. */
  cancel(id: unknown): void {
    if (this.running.has(id as string | number)) this.cancelled.add(id as string | number)
  }

  end(): void {
    for (const stream of this.streams.values()) stream.end()
  }
}
