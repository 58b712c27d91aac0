import { idKey, isNotification, isRequest, isResponse, type Message } from '../protocol/json-rpc.ts'

/**
 * Every instance of a server numbers its own requests from 0. A client that answers request 0 of an instance that is
 * gone must not answer request 0 of its successor, so on the wire such ids (and the progress tokens made from them)
 * carry the session's generation: `g3.n0` is request 0 of the instance of generation 3.
 */
export class RequestIds {
  readonly #generation: number
  readonly #prefix: string

  constructor(generation: number) {
    this.#generation = generation
    this.#prefix = `g${generation}.`
  }

  /** The same for everything that the app sends at once; `data` is the text of it, kept where nothing is to be marked. */
  mark(data: string, messages: readonly Message[]): string {
    const marked = messages.map((message) => this.outbound(message))
    if (marked.every((message, i) => message === messages[i])) return data
    return JSON.stringify(data.trimStart().startsWith('[') ? marked : marked[0])
  }

  /** What the app sends, with its own ids marked. The same object when there is nothing to mark. */
  outbound(message: Message): Message {
    if (isRequest(message)) {
      const token = metaToken(message)
      const marked = { ...message, id: this.#mark(message.id) }
      return token === undefined ? marked : withMetaToken(marked, this.#mark(token))
    }
    const cancelled = isNotification(message, 'notifications/cancelled') && message.params?.['requestId']
    if (isId(cancelled))
      return { ...message, params: { ...message.params, requestId: this.#mark(cancelled) } }
    return message
  }

  /** What the client sends, with our marks taken off; undefined when it is meant for an instance that is gone. */
  inbound(message: Message): Message | undefined {
    if (isResponse(message)) {
      const id = this.#unmark(message.id)
      return id === STALE ? undefined : { ...message, id }
    }
    const token = isNotification(message, 'notifications/progress') && message.params?.['progressToken']
    if (isId(token)) {
      const progressToken = this.#unmark(token)
      return progressToken === STALE
        ? undefined
        : { ...message, params: { ...message.params, progressToken } }
    }
    return message
  }

  /** Is it an answer to an instance that has come after this one? Generations grow: then the session has another owner. */
  isForSuccessor(message: Message): boolean {
    const generation = isResponse(message) && /^g(\d+)\.[ns]/.exec(String(message.id))?.[1]
    return Number(generation) > this.#generation
  }

  #mark(id: string | number): string {
    return this.#prefix + idKey(id)
  }

  #unmark(id: string | number): string | number | typeof STALE {
    const match = /^g\d+\.([ns])(.*)$/s.exec(String(id))
    if (!match) return id
    if (!String(id).startsWith(this.#prefix)) return STALE
    return match[1] === 'n' ? Number(match[2]) : match[2]!
  }
}

const STALE = Symbol('stale')

function isId(value: unknown): value is string | number {
  return typeof value === 'string' || typeof value === 'number'
}

function metaToken(message: Message): string | number | undefined {
  const meta = message.params?.['_meta'] as { progressToken?: unknown } | undefined
  return isId(meta?.progressToken) ? meta.progressToken : undefined
}

function withMetaToken(message: Message, progressToken: string): Message {
  const meta = message.params!['_meta'] as object
  return { ...message, params: { ...message.params, _meta: { ...meta, progressToken } } }
}
