import type { IncomingMessage, InformationEvent, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { TLSSocket } from 'node:tls'
import { Stop } from '../../stop.ts'
import type { Remote } from '../app.ts'
import { collect, endToEnd, forward } from './headers.ts'
import type { Upstream } from './upstream.ts'

/** A request that somebody may have read before us: as middleware leaves it. */
type Incoming = IncomingMessage & { readonly body?: unknown }

/**
 * A request that is none of the endpoint's, and its answer: each chunk goes on when there is room for it, in both directions.
 * Rejects with `AppAway` or `AppBrokeOff` when there is no answer; one that breaks off is broken off here too.
 */
export async function passNode(
  upstream: Upstream,
  target: string,
  req: Incoming,
  res: ServerResponse,
): Promise<void> {
  const gone = new Stop()
  res.once('close', () => gone.stop())
  const headers = forward(collect(endToEnd(req.rawHeaders)), remoteOf(req.socket))
  const sent = {
    method: req.method ?? 'GET',
    target,
    ...withBody(req, headers),
    trailers: () => collect(endToEnd(req.rawTrailers)),
    onInformation: (information: InformationEvent) => inform(req, res, information),
    signal: gone,
  }
  const response = await upstream.request(sent).catch((error: unknown) => {
    if (!gone.stopped) throw error
  })
  if (!response) return
  res.once('finish', () => req.resume())
  await relay(response, res)
}

/** The head, the body and the trailers of a response, as they are. */
export async function relay(response: IncomingMessage, res: ServerResponse): Promise<void> {
  for (const [name, value] of Object.entries(collect(endToEnd(response.rawHeaders))))
    res.setHeader(name, value)
  res.statusCode = response.statusCode!
  // HTTP/2 has no such thing.
  if (res.req.httpVersionMajor < 2) res.statusMessage = response.statusMessage ?? ''
  res.flushHeaders()
  try {
    await pipeline(response, res, { end: false })
  } catch {
    // One of the two is gone: so is the other.
    response.destroy()
    res.destroy()
    return
  }
  const trailers = collect(endToEnd(response.rawTrailers))
  if (Object.keys(trailers).length > 0) res.addTrailers(trailers as OutgoingHttpHeaders)
  res.end()
}

/** The same in web-standard form. */
export async function passFetch(upstream: Upstream, request: Request): Promise<Response> {
  const { protocol, host, pathname, search } = new URL(request.url)
  const gone = new Stop()
  request.signal.addEventListener('abort', () => gone.stop(), { once: true })
  const given = collect(endToEnd([...request.headers].flat()))
  given['host'] ??= host
  const headers = forward(given, { encrypted: protocol === 'https:' })
  const length = request.headers.get('content-length')
  if (request.body) framed(headers, length ?? undefined)
  const response = await upstream.request({
    method: request.method,
    target: pathname + search,
    headers,
    body: request.body ? Readable.fromWeb(request.body as never) : undefined,
    signal: gone,
  })
  const answer = new Headers(endToEnd(response.rawHeaders).map(([name, value]) => [name, value]))
  const status = response.statusCode!
  const bodiless = request.method === 'HEAD' || status === 204 || status === 205 || status === 304
  if (bodiless) response.resume()
  return new Response(bodiless ? null : toWeb(response), { status, headers: answer })
}

/** Pulled chunk by chunk: `Readable.toWeb` counts chunks where it means bytes, and runs far ahead of a slow reader. */
function toWeb(response: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
  return new ReadableStream({
    async pull(controller) {
      const next = await chunks.next()
      if (next.done) controller.close()
      else controller.enqueue(next.value)
    },
    cancel: () => void response.destroy(),
  })
}

/** How the body is framed is said anew: a length that was given stands, and where none was, it goes in chunks. */
function withBody(req: Incoming, headers: OutgoingHttpHeaders) {
  if (req.readableEnded && req.body !== undefined) {
    // A body parser has been here: what it read is all there is.
    const { body } = req
    const bytes = Buffer.isBuffer(body)
      ? body
      : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
    delete headers['content-encoding']
    return { headers: { ...headers, 'content-length': bytes.byteLength }, body: bytes }
  }
  if (!hasBody(req)) return { headers }
  framed(headers, req.headers['content-length'])
  return { headers, body: req }
}

function framed(headers: OutgoingHttpHeaders, length: string | undefined): void {
  if (length === undefined) headers['transfer-encoding'] = 'chunked'
  else headers['content-length'] = length
}

function hasBody(req: IncomingMessage): boolean {
  if (req.httpVersionMajor < 2) {
    return req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0
  }
  return !(req as unknown as { stream: { endAfterHeaders: boolean } }).stream.endAfterHeaders
}

/** 102 and 103 are for the client; 100 it has had from us, and 101 is none. */
function inform(
  req: IncomingMessage,
  res: ServerResponse,
  { statusCode, rawHeaders }: InformationEvent,
): void {
  if (req.httpVersion === '1.0' || res.headersSent) return
  if (statusCode === 102) res.writeProcessing()
  const hints = collect(endToEnd(rawHeaders))
  const { link } = hints
  if (statusCode === 103 && link) res.writeEarlyHints({ ...hints, link })
}

export function remoteOf(socket: Socket): Remote {
  return {
    address: socket.remoteAddress,
    port: socket.remotePort,
    encrypted: (socket as Partial<TLSSocket>).encrypted === true,
  }
}
