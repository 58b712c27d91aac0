import type { StopSignal } from '../stop.ts'
import type { AppBody, AppRequest, AppResponse, HeaderPairs, OnChunk } from './app.ts'

/** `Request` takes none of these: no app behind `fetch` is ever asked them. */
const NOT_FOR_FETCH = /^(?:CONNECT|TRACE|TRACK)$/i

/** What an app behind `fetch` answers to a method that it cannot be asked; undefined: it can. */
export function notForFetch({ method }: AppRequest): AppResponse | undefined {
  return NOT_FOR_FETCH.test(method) ? fromWebResponse(new Response(null, { status: 405 })) : undefined
}

export function webRequest(request: AppRequest, withBody = true): Request {
  const { method, headers, url, body, remote, signal } = request
  const origin = `${remote?.encrypted ? 'https' : 'http'}://${headers['host'] || 'localhost'}`
  const init = { method, headers, ...(withBody && body && { body: body as Uint8Array<ArrayBuffer> }) }
  return signal ? new StoppableRequest(origin + url, init, signal) : new Request(origin + url, init)
}

/**
 * Its `signal` is made when somebody looks at it: given to the constructor, one would cost more than all the rest of the
 * request, and few apps look. What is built on the request reads it too, but for `new Request(request)`.
 */
class StoppableRequest extends Request {
  readonly #stop: StopSignal
  #signal: AbortSignal | undefined

  constructor(input: string | Request, init: RequestInit | undefined, stop: StopSignal) {
    super(input, init)
    this.#stop = stop
  }

  override get signal(): AbortSignal {
    this.#signal ??= toAbortSignal(this.#stop)
    return this.#signal
  }

  override clone(): Request {
    return new StoppableRequest(super.clone(), undefined, this.#stop)
  }
}

function toAbortSignal(signal: StopSignal): AbortSignal {
  const controller = new AbortController()
  signal.onStop(() => controller.abort())
  return controller.signal
}

export function fromWebResponse(response: Response): AppResponse {
  const reader = response.body?.getReader()
  return {
    status: response.status,
    headers: headerPairs(response.headers),
    body: new WebBody(reader),
    cancel: () => void reader?.cancel().catch(() => {}),
  }
}

export function headerPairs(headers: Headers): HeaderPairs {
  return [...headers].map(([name, value]) => [name, value] as const)
}

class WebBody implements AppBody {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined

  constructor(reader: ReadableStreamDefaultReader<Uint8Array> | undefined) {
    this.#reader = reader
  }

  async forEach(onChunk: OnChunk): Promise<void> {
    for (let chunk = await this.#next(); chunk; chunk = await this.#next()) {
      const dealt = onChunk(chunk)
      if (dealt) await dealt
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (let chunk = await this.#next(); chunk; chunk = await this.#next()) yield chunk
  }

  async #next(): Promise<Uint8Array | undefined> {
    return (await this.#reader?.read())?.value
  }
}
