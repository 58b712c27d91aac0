import type { IncomingMessage } from 'node:http'

/** Thrown when a request body is longer than it may be. */
export class BodyTooLarge extends Error {}

/** The whole body; rejects with `BodyTooLarge` as soon as it is known to be one. */
export async function readNodeBody(req: IncomingMessage, limit: number): Promise<Buffer> {
  if (Number(req.headers['content-length'] ?? 0) > limit) throw new BodyTooLarge()
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.byteLength
    if (size > limit) throw new BodyTooLarge()
    chunks.push(chunk)
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
}

export async function readWebBody(request: Request, limit: number): Promise<Buffer> {
  if (Number(request.headers.get('content-length') ?? 0) > limit) throw new BodyTooLarge()
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength
    if (size > limit) throw new BodyTooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Undefined where it is not JSON: the app will say so. */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString())
  } catch {
    return undefined
  }
}

/** In the words of the SDK's transport. */
export function tooLarge(limit: number): string {
  const message = `Payload Too Large: a request body may have ${limit} bytes at the most`
  return JSON.stringify({ jsonrpc: '2.0', error: { code: -32000, message }, id: null })
}
