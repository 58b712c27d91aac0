import type { TLSSocket } from 'node:tls'

/**
 * What a TLS connection says about its client, for an app that asks for client certificates. It stays in this process: at
 * another node an app finds none, and refuses, for there it would be nothing but a claim.
 */
export class ClientCertificate {
  readonly authorized: boolean
  readonly authorizationError: Error | undefined
  readonly #brief: object
  readonly #detailed: object

  private constructor(socket: TLSSocket, brief: object) {
    this.authorized = socket.authorized
    this.authorizationError = socket.authorizationError
    this.#brief = brief
    this.#detailed = socket.getPeerCertificate(true)
  }

  /** Undefined: the client has shown none. Taken when it is asked for, because a call outlives its connection. */
  static of(socket: object): ClientCertificate | undefined {
    const known = seen.get(socket)
    if (known !== undefined) return known ?? undefined
    const { getPeerCertificate } = socket as Partial<TLSSocket>
    const brief = getPeerCertificate?.call(socket as TLSSocket, false)
    const shown = brief !== undefined && brief !== null && Object.keys(brief).length > 0
    const certificate = shown ? new ClientCertificate(socket as TLSSocket, brief) : null
    seen.set(socket, certificate)
    return certificate ?? undefined
  }

  /** As of a `TLSSocket`. */
  getPeerCertificate(detailed = false): object {
    return detailed ? this.#detailed : this.#brief
  }

  toJSON(): undefined {
    return undefined
  }
}

/** Once for each connection. */
const seen = new WeakMap<object, ClientCertificate | null>()
