import type { StopSignal } from '../stop.ts'
import type { AppRequest, AppResponse, HeaderPairs } from './app.ts'

/** `Request` takes none of these: no app behind `fetch` is ever asked them. */
const NOT_FOR_FETCH = /^(?:CONNECT|TRACE|TRACK)$/i

/** What an app behind `fetch` answers to a method that it cannot be asked; undefined: it can. */
export function notForFetch({ method }: AppRequest): AppResponse | undefined {
  return NOT_FOR_FETCH.test(method) ? fromWebResponse(new Response(null, { status: 405 })) : undefined
}

export function webRequest(request: AppRequest, withBody = true): Request {
  const { method, headers, url, body, remote, signal } = request
  const origin = `${remote?.encrypted ? 'https' : 'http'}://${headers['host'] || 'localhost'}`
  return new Request(origin + url, {
    method,
    headers,
    ...(signal && { signal: toAbortSignal(signal) }),
    ...(withBody && body && { body: body as Uint8Array<ArrayBuffer> }),
  })
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
    body: chunks(reader),
    cancel: () => void reader?.cancel().catch(() => {}),
  }
}

export function headerPairs(headers: Headers): HeaderPairs {
  return [...headers].map(([name, value]) => [name, value] as const)
}

async function* chunks(
  reader: ReadableStreamDefaultReader<Uint8Array> | undefined,
): AsyncGenerator<Uint8Array> {
  for (;;) {
    const next = await reader?.read()
    if (!next || next.done) return
    yield next.value
  }
}
