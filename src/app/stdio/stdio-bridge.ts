import { errorText } from '../../errors.ts'
import { AppAway, AppBrokeOff } from '../app.ts'
import type { ConnectableServer } from '../factory-app.ts'
import type { ServerProcess } from './load-transport.ts'
import { type Message, Related } from './related.ts'

/** The transport towards the client, as far as we use it; both SDK lines share it. */
interface ClientTransport {
  onmessage?: ((message: never) => void) | undefined
  onclose?: (() => void) | undefined
  start(): Promise<void>
  send(message: object, options?: { relatedRequestId?: string | number }): Promise<void>
  close(): Promise<void>
}

interface Hooks {
  /** The process runs. */
  readonly onStart: () => void
  /** It has ended. */
  readonly onEnd: () => void
}

/**
 * The server of one session, in a process of its own: what its client says goes to the process, and what the process says goes
 * to the client. A process that ends takes the session along.
 */
export class StdioBridge implements ConnectableServer {
  readonly #process: ServerProcess
  readonly #hooks: Hooks
  readonly #related = new Related()
  #client: ClientTransport | undefined
  /** What was said before goes first. */
  #sent = Promise.resolve()
  #closing: Promise<void> | undefined
  gone: AppBrokeOff | undefined

  constructor(process: ServerProcess, hooks: Hooks) {
    this.#process = process
    this.#hooks = hooks
  }

  /** Starts the process. Rejects with `AppAway` when it cannot be started, or is not wanted any more. */
  async connect(client: ClientTransport): Promise<void> {
    const process = this.#process
    this.#client = client
    const { onclose } = client
    client.onclose = () => {
      onclose?.()
      void this.close()
    }
    client.onmessage = (message: Message) => this.#toServer(message)
    process.onmessage = (message: Message) => this.#toClient(message)
    process.onclose = () => {
      // Asked to go, it has not broken anything off.
      if (!this.#closing)
        this.gone = new AppBrokeOff('The process of the session ended before it had answered.')
      this.#hooks.onEnd()
      // Behind what it has said last.
      this.#sent = this.#sent.then(() => client.close())
    }
    try {
      if (!this.#closing) await process.start()
    } catch (cause) {
      this.#hooks.onEnd()
      throw new AppAway(`No process for a session: ${errorText(cause)}`, { cause })
    }
    if (this.#closing) {
      // What ended before it had begun is ended now.
      await process.close()
      this.#hooks.onEnd()
      throw new AppAway('No process for a session: none is started any more.')
    }
    this.#hooks.onStart()
    await client.start()
  }

  /** Resolves when the process has ended. */
  async close(): Promise<void> {
    this.#closing ??= this.#process.close()
    await this.#closing
  }

  #toServer(message: Message): void {
    this.#related.heard(message)
    // One that has gone says so itself.
    this.#process.send(message).catch(() => {})
  }

  #toClient(message: Message): void {
    const isAnswer = message.method === undefined
    if (isAnswer && !this.#related.answers(message)) return
    const relatedRequestId = isAnswer ? undefined : this.#related.requestOf(message)
    const options = relatedRequestId === undefined ? {} : { relatedRequestId }
    this.#sent = this.#sent
      .then(() => this.#client!.send(message, options))
      // It was cancelled meanwhile, or the session has ended.
      .catch(() => {})
  }
}
