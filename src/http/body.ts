import { constants } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, type ZlibOptions } from 'node:zlib'
import { type Answer, refuse } from '../session/protocol/answer.ts'
import type { Service } from './service.ts'

/** Thrown for a body that is not taken; `answer` says why, in the words of the SDK's transport where it has them. */
export class BodyRefused extends Error {
  readonly answer: Answer

  constructor(answer: Answer) {
    super('The body of a request was refused.')
    this.answer = answer
  }
}

type BodyLimits = NonNullable<Service['body']>

/** The whole body. Rejects with `BodyRefused` as soon as it is known to be too large, or cannot be decoded. */
export async function readNodeBody(req: IncomingMessage, { limit, encoded }: BodyLimits): Promise<Buffer> {
  const body = await collectNode(req, limit)
  if (encoded) return body
  const encoding = req.headers['content-encoding']
  return legible(
    encoding === undefined ? body : await inflated(body, encoding, limit),
    req.headers['content-type'],
  )
}

/**
 * By its events: an iterator costs a small body more than the rest of its way. Left early, the request is not destroyed, for its
 * connection still carries the refusal.
 */
function collectNode(req: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const settle = (settled: () => void) => {
      req.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose)
      settled()
    }
    const onData = (chunk: Buffer) => {
      size += chunk.byteLength
      if (size <= limit) return void chunks.push(chunk)
      settle(() => reject(tooLarge(limit)))
      // What becomes of the rest is nobody's business any more.
      req.pause().on('error', () => {})
    }
    const onEnd = () => settle(() => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)))
    const onError = (error: unknown) => settle(() => reject(error))
    const onClose = () => onError(new Error('The request was closed in the middle of its body.'))
    if (Number(req.headers['content-length'] ?? 0) > limit) return reject(tooLarge(limit))
    // It may be over for somebody who has read it before us.
    if (req.readableEnded) return resolve(Buffer.alloc(0))
    if (req.destroyed) return onClose()
    req.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose)
  })
}

/** The same of a web-standard request. */
export async function readWebBody(request: Request, { limit, encoded }: BodyLimits): Promise<Buffer> {
  const { headers } = request
  const body = await collect(request.body ?? [], headers.get('content-length'), limit)
  if (encoded) return body
  return legible(await inflated(body, headers.get('content-encoding'), limit), headers.get('content-type'))
}

async function collect(
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  length: string | null | undefined,
  limit: number,
): Promise<Buffer> {
  if (Number(length ?? 0) > limit) throw tooLarge(limit)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.byteLength
    if (size > limit) throw tooLarge(limit)
    chunks.push(chunk)
  }
  const only = chunks[0]
  return chunks.length === 1 && Buffer.isBuffer(only) ? only : Buffer.concat(chunks)
}

type Inflate = (body: Uint8Array, options: ZlibOptions) => Promise<Buffer>

const INFLATE = new Map<string, Inflate>([
  ['gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['br', promisify(brotliDecompress)],
])

async function inflated(body: Buffer, encoding: string | null | undefined, limit: number): Promise<Buffer> {
  const name = encoding?.trim().toLowerCase() ?? ''
  if (name === '' || name === 'identity') return body
  const run = INFLATE.get(name)
  if (!run) throw unsupported()
  if (body.byteLength === 0) return body
  try {
    return await run(body, { maxOutputLength: Math.min(limit, constants.MAX_LENGTH) })
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(limit)
    throw new BodyRefused(refuse(400, 'Bad Request: the body is not encoded as Content-Encoding says'))
  }
}

/** Whatever of them it is read as, the signs of JSON are the same. */
const LIKE_ASCII = /^(?:utf-?8|us-ascii|iso-8859-\d+|windows-125\d)$/i

/**
 * The body, if it says the same to everybody. MCP is UTF-8; but one app decodes what a charset says, and another finds
 * UTF-16 out by itself, as the JSON of Python does. They would read messages where we see none.
 */
export function legible(body: Buffer, type: string | null | undefined): Buffer {
  const charsets = [...(type ?? '').matchAll(/charset\s*=\s*"?([^"\s;,]*)/gi)]
  // UTF-16 and UTF-32 write the signs of JSON with NULs, which are nowhere else in it.
  const isUtf8 = charsets.every(([, name = '']) => LIKE_ASCII.test(name)) && !body.includes(0)
  if (!isUtf8) throw new BodyRefused(refuse(415, 'Unsupported Media Type: the body must be UTF-8'))
  return body
}

const MAX_DEPTH = 1000

/**
 * What a body says, if it can be said again. JSON is read to any depth, and written by recursion, which ends at some thousands:
 * a call beyond that nobody could run again, in a session that nobody could take over. `size`: bytes that it was read from.
 */
export function sayable<T>(parsed: T, { encoded }: BodyLimits, size = Number.POSITIVE_INFINITY): T {
  // Each level has two brackets: what is short is not deep, and most bodies are.
  if (encoded || size < 2 * MAX_DEPTH || !isTooDeep(parsed, MAX_DEPTH)) return parsed
  throw new BodyRefused(refuse(400, `Bad Request: a body may be nested ${MAX_DEPTH} deep at the most`))
}

function isTooDeep(value: unknown, most: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  const inside: readonly unknown[] = Array.isArray(value) ? value : Object.values(value)
  return most === 0 || inside.some((each) => isTooDeep(each, most - 1))
}

function unsupported(): BodyRefused {
  const answer = refuse(415, 'Unsupported Media Type: Content-Encoding must be gzip, deflate, br or identity')
  return new BodyRefused({
    ...answer,
    headers: [...answer.headers, ['accept-encoding', 'gzip, deflate, br']],
  })
}

function tooLarge(limit: number): BodyRefused {
  return new BodyRefused(refuse(413, `Payload Too Large: a request body may have ${limit} bytes at the most`))
}
