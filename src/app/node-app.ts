import { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { App, AppRequest, AppResponse, HeaderPairs } from './app.ts'
import { ChunkQueue } from './chunk-queue.ts'
import { LoopSocket } from './loop-socket.ts'
import { withSessionId } from './persistent-session-id.ts'

/** As routers have it: the request is none of this one's, or has failed here. */
export type Next = (error?: unknown) => void

export type NodeListener = (req: IncomingMessage, res: ServerResponse, next?: Next) => unknown

/**
 * Calls an app written for `node:http` (Express, Koa, Fastify, a bare listener) in this process, without a socket:
 * with a real `IncomingMessage` and a real `ServerResponse` whose socket leads here. The client's own pair would not
 * do, because a client that goes away must not end the call. Methods are patched on the object itself, as
 * `compression` does, because Express swaps the prototype.
 */
export class NodeApp implements App {
  readonly #listener: () => NodeListener | Promise<NodeListener>

  /** `listener` is asked on first use, so that an app which still has to get ready can be awaited. */
  constructor(listener: () => NodeListener | Promise<NodeListener>) {
    this.#listener = listener
  }

  async fetch(request: AppRequest): Promise<AppResponse> {
    const listener = await this.#listener()
    return withSessionId(request.sessionId, () => answerOf(listener, request))
  }

  async close(): Promise<void> {}
}

/** Settles with the head of the response. */
function answerOf(listener: NodeListener, request: AppRequest): Promise<AppResponse> {
  return new Promise((resolve, reject) => {
    const { req, res } = connect(request, resolve, reject)
    const fail = (error: unknown) => {
      reject(error)
      res.destroy()
    }
    try {
      Promise.resolve(listener(req, res)).catch(fail)
    } catch (error) {
      fail(error)
    }
  })
}

function connect(
  request: AppRequest,
  resolve: (response: AppResponse) => void,
  reject: (error: unknown) => void,
): { req: IncomingMessage; res: ServerResponse } {
  const queue = new ChunkQueue()
  const socket = new LoopSocket(request.remote, queue) as unknown as Socket
  const req = incoming(request, socket)
  const res = new ServerResponse(req)
  res.assignSocket(socket)

  let answered = false
  const answer = () => {
    if (answered) return
    answered = true
    const { auth: authInfo } = req as { auth?: unknown }
    resolve({
      status: res.statusCode,
      headers: pairs(res),
      body: queue,
      cancel: () => res.destroy(),
      ...(authInfo !== undefined && { authInfo }),
    })
  }
  capture(res, queue, answer)

  const closed = () => {
    if (!answered) reject(new Error('The app closed the connection without an answer.'))
    queue.end()
  }
  res.on('finish', () => {
    if (res.socket) res.detachSocket(socket)
    process.nextTick(() => {
      res.destroyed = true
      res.emit('close')
    })
  })
  res.on('close', closed)
  socket.on('drain', () => res.emit('drain'))
  // As a server does: `res.destroy(error)` ends the response, and not the process.
  socket.on('error', () => {})
  socket.on('close', () => {
    if (res.writableFinished) return
    req.destroy()
    res.emit('close')
  })
  const forget = request.signal?.onStop(() => res.destroy())
  if (forget) res.once('close', forget)
  return { req, res }
}

/** Hands what the app writes to `queue`, and calls `answer` once its head is final. */
function capture(res: ServerResponse, queue: ChunkQueue, answer: () => void): void {
  const { writeHead, write, end, flushHeaders } = res
  res.writeHead = ((status: number, ...rest: unknown[]) => {
    // Given straight to writeHead, headers never become visible to getHeaders(): set them one by one.
    const reason = typeof rest[0] === 'string' ? rest[0] : undefined
    setHeaders(res, reason === undefined ? rest[0] : rest[1])
    return Reflect.apply(writeHead, res, reason === undefined ? [status] : [status, reason])
  }) as typeof res.writeHead
  res.write = ((chunk: unknown, ...rest: unknown[]) => {
    const result = Reflect.apply(write, res, [chunk, ...rest])
    answer()
    queue.push(bytes(chunk, rest[0]))
    return result
  }) as typeof res.write
  res.end = ((chunk?: unknown, ...rest: unknown[]) => {
    const ended = res.writableEnded
    const result = Reflect.apply(end, res, [chunk, ...rest])
    answer()
    if (!ended && chunk !== undefined && chunk !== null && typeof chunk !== 'function')
      queue.push(bytes(chunk, rest[0]))
    queue.end()
    return result
  }) as typeof res.end
  res.flushHeaders = () => {
    flushHeaders.call(res)
    answer()
  }
}

/** What `writeHead` takes: an object, a flat list of names and values, or a list of pairs; a value may be a list. */
function setHeaders(res: ServerResponse, headers: unknown): void {
  if (Array.isArray(headers)) {
    const seen = new Set<string>()
    for (const [name, value] of Array.isArray(headers[0]) ? headers : inPairs(headers)) {
      const key = String(name).toLowerCase()
      // What `setHeader` has said before is replaced; what the list says twice is said twice.
      if (!seen.has(key)) res.removeHeader(key)
      seen.add(key)
      res.appendHeader(String(name), value)
    }
  } else if (headers) {
    for (const [name, value] of Object.entries(headers)) {
      if (value !== undefined) res.setHeader(name, value as string)
    }
  }
}

function* inPairs(flat: readonly unknown[]): Generator<readonly [unknown, string | string[]]> {
  if (flat.length % 2 !== 0) throw new TypeError('writeHead() needs a value for each name.')
  for (let i = 0; i < flat.length; i += 2) yield [flat[i], flat[i + 1] as string | string[]]
}

function incoming(request: AppRequest, socket: Socket): IncomingMessage {
  const req = new IncomingMessage(socket)
  req.method = request.method
  req.url = request.url
  req.httpVersion = '1.1'
  req.httpVersionMajor = 1
  req.httpVersionMinor = 1
  const headers: Record<string, string> = {}
  const raw: string[] = []
  const set = (name: string, value: string) => {
    headers[name] = value
    for (const line of request.lines?.[name] ?? [value]) raw.push(name, line)
  }
  for (const name in request.headers) {
    if (name !== 'content-length' && name !== 'transfer-encoding') set(name, request.headers[name]!)
  }
  if (request.body) set('content-length', String(request.body.byteLength))
  req.headers = headers
  req.rawHeaders = raw
  if (request.authInfo !== undefined) Object.assign(req, { auth: request.authInfo })
  if (request.body) req.push(request.body)
  req.push(null)
  req.complete = true
  return req
}

function pairs(res: ServerResponse): HeaderPairs {
  const headers = res.getHeaders()
  const list: [string, string][] = []
  for (const name in headers) {
    const value = headers[name]
    if (Array.isArray(value)) for (const each of value) list.push([name, String(each)])
    else if (value !== undefined) list.push([name, String(value)])
  }
  return list
}

function bytes(chunk: unknown, encoding: unknown): Uint8Array {
  return typeof chunk === 'string'
    ? Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
    : (chunk as Uint8Array)
}
