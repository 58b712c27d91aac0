/** A JSON-RPC 2.0 message, as far as the engine looks at it. */
export interface Message {
  readonly id?: string | number | null
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown }
}

export interface Request extends Message {
  readonly id: string | number
  readonly method: string
}

export function isRequest(message: Message): message is Request {
  return typeof message.method === 'string' && message.id !== undefined && message.id !== null
}

export function isResponse(message: Message): message is Message & { id: string | number } {
  return message.method === undefined && message.id !== undefined && message.id !== null
}

export function isNotification(message: Message, method: string): boolean {
  return message.method === method && message.id === undefined
}

/** Undefined: not JSON-RPC, which is for the app to say. A batch (2025-03-26) is a list of more than one. */
export function toMessages(parsed: unknown): readonly Message[] | undefined {
  const list = Array.isArray(parsed) ? parsed : [parsed]
  return list.length > 0 && list.every((each) => typeof each === 'object' && each !== null) ? list : undefined
}

export function parseMessage(text: string): Message | undefined {
  try {
    return toMessages(JSON.parse(text))?.[0]
  } catch {
    return undefined
  }
}

/** JSON-RPC ids 1 and "1" are two ids. */
export function idKey(id: string | number): string {
  return `${typeof id === 'number' ? 'n' : 's'}${id}`
}

export function errorResponse(
  id: string | number | null,
  code: number,
  message: string,
  data?: object,
): string {
  return JSON.stringify({ jsonrpc: '2.0', id, error: { code, message, ...(data && { data }) } })
}

/** What the client is told of a call that must not be run twice. */
export function interrupted(request: Request): string {
  const tool = request.method === 'tools/call' ? { tool: request.params?.['name'] } : {}
  return errorResponse(
    request.id,
    -32603,
    'The call was interrupted: the process that ran it ended before its answer was stored. It may or may not have taken effect.',
    { reason: 'interrupted', method: request.method, ...tool },
  )
}
