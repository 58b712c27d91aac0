import { parseJson } from '../../json.ts'

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

/** The messages of a text: several where it is a batch, none where it is not JSON-RPC. */
export function parseMessages(text: string): readonly Message[] {
  return toMessages(parseJson(text)) ?? []
}

/** The text of several: a batch, where it is more than one. */
export function batchOf(messages: readonly string[]): string {
  return messages.length === 1 ? messages[0]! : `[${messages.join(',')}]`
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
