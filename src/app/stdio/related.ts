type Id = string | number

/** A JSON-RPC message of any kind, as far as we look at it. */
export interface Message {
  readonly id?: Id
  readonly method?: string
  readonly params?: {
    readonly requestId?: Id
    readonly progressToken?: Id
    readonly _meta?: { readonly progressToken?: Id }
  }
}

/** Requests in whose course a server may have something to ask or to say. */
const WORK: ReadonlySet<string | undefined> = new Set(['tools/call', 'prompts/get', 'resources/read'])

/** Said of the server as a whole, whatever else is running. */
const OF_NO_REQUEST = /^notifications\/(?:resources|tools|prompts|tasks)\//

/**
 * Which request of the client a message of the server belongs to, so that it goes into the stream of that request. Over stdio
 * nothing says so but the token of a progress notification. Anything else belongs to the request that runs; where several run,
 * to the one that came first, for a client may listen to no stream but those of its own requests.
 */
export class Related {
  /** Requests that run, in their order. */
  readonly #running = new Map<Id, Message>()

  /** Of the client. */
  heard(message: Message): void {
    const { id, method, params } = message
    if (id !== undefined && method !== undefined) this.#running.set(id, message)
    else if (method === 'notifications/cancelled') this.#running.delete(params?.requestId ?? '')
  }

  /** False: an answer to a request that nobody waits for any more. */
  answers({ id }: Message): boolean {
    return id !== undefined && this.#running.delete(id)
  }

  /** Undefined: of none. */
  requestOf({ method = '', params }: Message): Id | undefined {
    if (OF_NO_REQUEST.test(method)) return undefined
    const token = method === 'notifications/progress' ? params?.progressToken : undefined
    for (const [id, request] of this.#running) {
      if (token === undefined ? WORK.has(request.method) : request.params?._meta?.progressToken === token)
        return id
    }
    return undefined
  }
}
