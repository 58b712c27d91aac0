import type { AppRequest, AppResponse } from '../app/app.ts'
import { parseJson } from '../json.ts'
import type { AuthInfo } from '../options.ts'
import type { Answer, EventStream } from '../session/protocol/answer.ts'
import type { Sink } from '../sse.ts'
import { Stop } from '../stop.ts'
import { BodyRefused, readWebBody, sayable } from './body.ts'
import { forgetEncoding, webHeaders } from './headers.ts'
import { takesBody } from './serve-node.ts'
import type { Service } from './service.ts'

export interface FetchOptions {
  /** What an authentication middleware in front of the handler found. */
  readonly authInfo?: AuthInfo
  /** The JSON body, where somebody has read it already. */
  readonly parsedBody?: unknown
}

/** Reads a web-standard request, lets `service` answer it, and makes the response. */
export async function serveFetch(
  request: Request,
  { authInfo, parsedBody }: FetchOptions,
  service: Service,
): Promise<Response> {
  const { method } = request
  const gone = new Stop()
  const { signal } = request
  if (signal.aborted) gone.stop()
  else signal.addEventListener('abort', () => gone.stop(), { once: true })
  const headers = webHeaders(request)
  const caller: AppRequest = { method, url: service.url, headers, signal: gone, authInfo }
  const respond = (answer: Answer) => toResponse(answer, method, gone)
  if (!service.body || !takesBody(method)) return respond(await service.answer(caller))
  let body: Buffer
  let parsed: unknown
  try {
    body =
      parsedBody === undefined
        ? await readWebBody(request, service.body)
        : Buffer.from(JSON.stringify(sayable(parsedBody, service.body)))
    parsed = parsedBody ?? sayable(parseJson(body), service.body, body.byteLength)
  } catch (error) {
    if (!(error instanceof BodyRefused)) throw error
    return respond(await service.refuse(error.answer, caller))
  }
  if (!service.body.encoded) forgetEncoding(headers)
  return respond(await service.answer({ ...caller, body, parsed }))
}

/** Statuses that must not have a body refuse even an empty one. */
const BODILESS = new Set([204, 205, 304])

function toResponse(answer: Answer, method: string, gone: Stop): Response {
  const headers = new Headers()
  for (const [name, value] of answer.headers) headers.append(name, value)
  const { status } = answer
  const init = { status, headers }
  if ('tail' in answer) {
    // Nobody may ever read, nor cancel, the body of a request that was given up before it had its answer.
    gone.onStop(() => answer.tail.close())
    return new Response(tailBody(answer.tail), init)
  }
  const bodiless = method === 'HEAD' || BODILESS.has(status)
  if ('body' in answer) return new Response(bodiless ? null : (answer.body as BodyInit), init)
  const { response } = answer
  if (bodiless) response.cancel()
  else gone.onStop(() => response.cancel())
  return new Response(bodiless ? null : appBody(response), init)
}

function tailBody(tail: EventStream): ReadableStream<Uint8Array> {
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
