import type { IncomingMessage } from 'node:http'
import type { StopSignal } from '../../stop.ts'
import type { App, AppRequest, AppResponse, HeaderPairs, Presence } from '../app.ts'
import { collect, endToEnd, forward } from './headers.ts'
import type { Upstream } from './upstream.ts'

/** An app in another process, by its URL. */
export class UrlApp implements App {
  readonly #upstream: Upstream

  constructor(upstream: Upstream) {
    this.#upstream = upstream
  }

  get presence(): Presence {
    return this.#upstream.presence
  }

  async fetch({ method, url, headers, body, parsed, remote, signal }: AppRequest): Promise<AppResponse> {
    const given = collect(endToEnd(Object.entries(headers).flat()))
    const sent = forward(given, remote)
    if (body) sent['content-length'] = body.byteLength
    const response = await this.#upstream.request({
      method,
      target: url,
      headers: sent,
      body,
      signal,
      repeatable: method !== 'POST' || isPing(parsed),
    })
    return new Answer(response, this.#upstream, signal)
  }

  async close(): Promise<void> {
    this.#upstream.close()
  }
}

function isPing(parsed: unknown): boolean {
  return (parsed as { method?: unknown } | null | undefined)?.method === 'ping'
}

class Answer implements AppResponse {
  readonly status: number
  readonly headers: HeaderPairs
  readonly body: AsyncIterable<Uint8Array>
  readonly #response: IncomingMessage
  #cancelled = false

  constructor(response: IncomingMessage, upstream: Upstream, signal: StopSignal | undefined) {
    this.status = response.statusCode!
    this.headers = endToEnd(response.rawHeaders)
    this.#response = response
    this.body = this.#chunks(upstream, signal)
  }

  cancel(): void {
    this.#cancelled = true
    this.#response.destroy()
  }

  async *#chunks(upstream: Upstream, signal: StopSignal | undefined): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#response
    } catch (error) {
      // One that was destroyed on purpose has ended; it has not failed.
      if (this.#cancelled || signal?.stopped) return
      throw upstream.brokeOff(error)
    }
  }
}
