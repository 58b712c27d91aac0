import type { AppRequest, AppResponse } from '../app/app.ts'
import type { Answer } from '../session/protocol/answer.ts'
import type { Tail } from '../session/streams/tail.ts'
import type { Sink } from '../sse.ts'
import { Stop } from '../stop.ts'
import { BodyTooLarge, parseJson, readWebBody, tooLarge } from './body.ts'

export interface FetchOptions {
  /** What an authentication middleware in front of the handler found. */
  readonly authInfo?: unknown
  /** The JSON body, where somebody has read it already. */
  readonly parsedBody?: unknown
}

/** Reads a web-standard request, lets `handle` answer it, and makes the response. */
export async function serveFetch(
  request: Request,
  { authInfo, parsedBody }: FetchOptions,
  maxBodyBytes: number,
  handle: (request: AppRequest) => Promise<Answer>,
): Promise<Response> {
  const { pathname, search, host } = new URL(request.url)
  const headers: Record<string, string> = Object.fromEntries(request.headers)
  headers['host'] ??= host
  const { method } = request
  const gone = new Stop()
  request.signal.addEventListener('abort', () => gone.stop(), { once: true })
  const base = { method, url: pathname + search, headers, signal: gone, authInfo }
  if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return toResponse(await handle(base))
  if (parsedBody !== undefined) {
    return toResponse(
      await handle({ ...base, body: Buffer.from(JSON.stringify(parsedBody)), parsed: parsedBody }),
    )
  }
  let body: Buffer
  try {
    body = await readWebBody(request, maxBodyBytes)
  } catch (error) {
    if (!(error instanceof BodyTooLarge)) throw error
    return new Response(tooLarge(maxBodyBytes), {
      status: 413,
      headers: { 'content-type': 'application/json' },
    })
  }
  return toResponse(await handle({ ...base, body, parsed: parseJson(body) }))
}

function toResponse(answer: Answer): Response {
  const headers = new Headers()
  for (const [name, value] of answer.headers) headers.append(name, value)
  const { status } = answer
  // Statuses that must not have a body refuse even an empty one.
  const bodiless = status === 204 || status === 205 || status === 304
  if ('body' in answer) return new Response(bodiless ? null : (answer.body as BodyInit), { status, headers })
  if ('tail' in answer) return new Response(tailBody(answer.tail), { status, headers })
  return new Response(bodiless ? null : appBody(answer.response), { status, headers })
}

function tailBody(tail: Tail): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const sink: Sink & { onDrain: (() => void) | undefined } = {
    onDrain: undefined,
    write: () => true,
    end: () => {},
    flush: () => {},
  }
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        let ended = false
        sink.write = (text) => {
          if (!ended) controller.enqueue(encoder.encode(text))
          return (controller.desiredSize ?? 0) > 0
        }
        sink.end = (text = '') => {
          if (ended) return
          ended = true
          if (text !== '') controller.enqueue(encoder.encode(text))
          controller.close()
        }
        tail.start(sink)
      },
      pull() {
        sink.onDrain?.()
      },
      cancel() {
        sink.end = () => {}
        tail.close()
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 64 * 1024 }),
  )
}

function appBody(response: AppResponse): ReadableStream<Uint8Array> {
  const chunks = response.body[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await chunks.next()
      if (next.done) controller.close()
      else controller.enqueue(next.value)
    },
    cancel: () => response.cancel(),
  })
}
