import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import type { TLSSocket } from 'node:tls'
import type { AppRequest, AppResponse } from '../app/app.ts'
import { ClientCertificate } from '../app/client-certificate.ts'
import { parseJson } from '../json.ts'
import type { Answer } from '../session/protocol/answer.ts'
import type { Sink } from '../sse.ts'
import { Stop } from '../stop.ts'
import { BodyRefused, legible, readNodeBody, sayable } from './body.ts'
import { droppedLines, forgetEncoding, nodeHeaders, setHeaders } from './headers.ts'
import type { Service } from './service.ts'

/** What middleware in front of us may have left on the request. */
export interface ParsedRequest extends IncomingMessage {
  readonly auth?: unknown
  readonly body?: unknown
  readonly originalUrl?: string
}

/** Reads a Node request, of HTTP/1 or 2, lets `service` answer it, and writes the answer. Settles when it is complete. */
export async function serveNode(req: ParsedRequest, res: ServerResponse, service: Service): Promise<void> {
  const gone = new Stop()
  res.on('close', () => gone.stop())
  const { method = 'GET', auth } = req
  const headers = nodeHeaders(req)
  const lines = droppedLines(req)
  if (lines && service.joinsLines) {
    for (const [name, all] of Object.entries(lines)) headers[name] = all.join(', ')
  }
  const remote = remoteOf(req.socket)
  const caller: AppRequest = {
    method,
    url: service.url,
    headers,
    signal: gone,
    remote,
    authInfo: auth,
    ...(lines && !service.joinsLines && { lines }),
  }
  let request: AppRequest
  try {
    request = service.body && takesBody(method) ? { ...caller, ...(await bodyOf(req, service.body)) } : caller
  } catch (error) {
    if (!(error instanceof BodyRefused)) return void res.destroy()
    const answer = await service.refuse(error.answer, caller)
    // The rest of the body is not read: the connection cannot be used again.
    if (!req.complete && req.httpVersionMajor < 2) res.setHeader('connection', 'close')
    return write(res, answer, gone)
  }
  if (!service.body?.encoded) forgetEncoding(headers)
  await write(res, await service.answer(request), gone)
}

export function takesBody(method: string): boolean {
  return method !== 'GET' && method !== 'HEAD'
}

/** A body parser has been here: what it read is all there is. */
export function isRead(req: ParsedRequest): boolean {
  return req.body !== undefined && req.readableEnded
}

async function bodyOf(
  req: ParsedRequest,
  limits: NonNullable<Service['body']>,
): Promise<Pick<AppRequest, 'body' | 'parsed'>> {
  if (isRead(req)) {
    const { body: read } = req
    if (!Buffer.isBuffer(read) && typeof read !== 'string')
      return { body: Buffer.from(JSON.stringify(sayable(read, limits))), parsed: read }
    const body = typeof read === 'string' ? Buffer.from(read) : read
    // What is a text here, somebody has decoded.
    if (!limits.encoded) legible(body, typeof read === 'string' ? undefined : req.headers['content-type'])
    return { body, parsed: sayable(parseJson(body), limits, body.byteLength) }
  }
  const body = await readNodeBody(req, limits)
  const { 'content-length': length, 'transfer-encoding': coding } = req.headers
  // None is not an empty one, to an app that reads what it is said to be (`Content-Type`).
  if (body.byteLength === 0 && length === undefined && coding === undefined) return {}
  return { body, parsed: sayable(parseJson(body), limits, body.byteLength) }
}

function remoteOf(socket: Socket): AppRequest['remote'] {
  const encrypted = (socket as Partial<TLSSocket>).encrypted === true
  const certificate = encrypted ? ClientCertificate.of(socket) : undefined
  return {
    address: socket.remoteAddress,
    port: socket.remotePort,
    encrypted,
    ...(certificate && { certificate }),
  }
}

async function write(res: ServerResponse, answer: Answer, gone: Stop): Promise<void> {
  if (gone.stopped || res.destroyed) {
    if ('tail' in answer) answer.tail.close()
    if ('response' in answer) answer.response.cancel()
    return
  }
  res.statusCode = answer.status
  setHeaders(res, answer.headers)
  if ('body' in answer) return void res.end(answer.body)
  if ('response' in answer) return relayBody(res, answer.response, gone)
  gone.onStop(() => answer.tail.close())
  answer.tail.start(new NodeSink(res))
}

async function relayBody(res: ServerResponse, response: AppResponse, gone: Stop): Promise<void> {
  gone.onStop(() => response.cancel())
  // An app that has sent its head and has nothing to say yet: the client is to see as much.
  setImmediate(() => {
    if (!res.headersSent && !gone.stopped) res.flushHeaders()
  })
  // Rejects when the client has gone; where the app breaks off in the middle of its body, it breaks off as well.
  await pipeline(response.body, res).catch(() => res.destroy())
}

class NodeSink implements Sink {
  onDrain: (() => void) | undefined
  readonly #res: ServerResponse

  constructor(res: ServerResponse) {
    this.#res = res
    res.on('drain', () => this.onDrain?.())
  }

  write(text: string): boolean {
    return this.#res.write(text)
  }

  end(text?: string): void {
    this.#res.end(text)
  }

  flush(): void {
    if (!this.#res.headersSent) this.#res.flushHeaders()
  }
}
