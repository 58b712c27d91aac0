/**
 * What a body says, or undefined where it is not JSON: the app knows what to answer to that. A byte order mark is none of it, as
 * for most readers of JSON.
 */
export function parseJson(body: Uint8Array | string): unknown {
  const text =
    typeof body === 'string'
      ? body
      : Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')
  try {
    return JSON.parse(text.startsWith('\ufeff') ? text.slice(1) : text)
  } catch {
    return undefined
  }
}

/** The request that opens a session. */
export interface InitializeRequest {
  readonly id: string | number
  readonly method: 'initialize'
}

/**
 * The `initialize` in a body. The SDK takes a batch of exactly one for the message in it, and refuses an `initialize`
 * among others: so such a batch is an `initialize` too, and the app's to refuse.
 */
export function findInitialize(parsed: unknown): InitializeRequest | undefined {
  const messages: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed]
  return messages.find(isInitialize)
}

function isInitialize(message: unknown): message is InitializeRequest {
  if (typeof message !== 'object' || message === null) return false
  const { method, id } = message as Partial<InitializeRequest>
  return method === 'initialize' && (typeof id === 'string' || typeof id === 'number')
}
