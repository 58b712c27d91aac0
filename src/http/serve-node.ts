import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { AppRequest, HeaderPairs } from '../app/app.ts'
import type { Answer } from '../session/protocol/answer.ts'
import type { Sink } from '../sse.ts'
import { Stop, type StopSignal } from '../stop.ts'
import { BodyTooLarge, parseJson, readNodeBody, tooLarge } from './body.ts'

/** What middleware in front of us may have left on the request. */
export interface ParsedRequest extends IncomingMessage {
  readonly auth?: unknown
  readonly body?: unknown
  readonly originalUrl?: string
}

/** Reads a Node request, lets `handle` answer it, and writes the answer. Settles when the answer is complete. */
export async function serveNode(
  req: ParsedRequest,
  res: ServerResponse,
  maxBodyBytes: number,
  handle: (request: AppRequest) => Promise<Answer>,
): Promise<void> {
  const gone = new Stop()
  res.on('close', () => gone.stop())
  let request: AppRequest
  try {
    request = await toRequest(req, maxBodyBytes, gone)
  } catch (error) {
    if (!(error instanceof BodyTooLarge)) return void res.destroy()
    // The rest of the body is not read: the connection cannot be used again.
    res.writeHead(413, { 'content-type': 'application/json', connection: 'close' })
    return void res.end(tooLarge(maxBodyBytes))
  }
  await write(res, await handle(request))
}

async function toRequest(req: ParsedRequest, limit: number, signal: StopSignal): Promise<AppRequest> {
  const { method = 'GET', auth } = req
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(req.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value
  }
  const url = req.originalUrl ?? req.url ?? '/'
  const base = { method, url, headers, signal, remote: remoteOf(req.socket), authInfo: auth }
  if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return base
  // A body parser has been here: what it read is all there is.
  if (req.body !== undefined && req.readableEnded) {
    const body = Buffer.isBuffer(req.body) ? req.body : Buffer.from(textOf(req.body))
    return {
      ...base,
      body,
      parsed: typeof req.body === 'object' && !Buffer.isBuffer(req.body) ? req.body : parseJson(body),
    }
  }
  const body = await readNodeBody(req, limit)
  return { ...base, body, parsed: parseJson(body) }
}

function textOf(body: unknown): string {
  return typeof body === 'string' ? body : JSON.stringify(body)
}

function remoteOf(socket: Socket): AppRequest['remote'] {
  return {
    address: socket.remoteAddress,
    port: socket.remotePort,
    encrypted: (socket as Partial<TLSSocket>).encrypted === true,
  }
}

async function write(res: ServerResponse, answer: Answer): Promise<void> {
  if (res.destroyed) {
    if ('tail' in answer) answer.tail.close()
    if ('response' in answer) answer.response.cancel()
    return
  }
  res.statusCode = answer.status
  setHeaders(res, answer.headers)
  if ('body' in answer) return void res.end(answer.body)
  if ('tail' in answer) {
    const { tail } = answer
    res.on('close', () => tail.close())
    return tail.start(new NodeSink(res))
  }
  const { response } = answer
  res.on('close', () => response.cancel())
  try {
    for await (const chunk of response.body) {
      if (!res.write(chunk)) await new Promise((resolve) => res.once('drain', resolve).once('close', resolve))
      if (res.destroyed) return
    }
    res.end()
  } catch {
    // The app broke off in the middle of its body: so do we.
    res.destroy()
  }
}

/** As `res.setHeader` would, except that a name which stands more than once is kept more than once. */
function setHeaders(res: ServerResponse, headers: HeaderPairs): void {
  const seen = new Set<string>()
  for (const [name, value] of headers) {
    if (seen.has(name)) res.appendHeader(name, value)
    else res.setHeader(name, value)
    seen.add(name)
  }
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
