import type { WakeUp } from '../cluster/wake-ups.ts'
import type { Listener } from './subscriber.ts'
import { isLast, type Update } from './tail.ts'

/** The owner's end of a tail whose client is at another node: what would be written here is told to that node. */
export class RemoteTail implements Listener {
  readonly remote = true
  readonly resumable = true
  readonly streamId: string
  readonly call: string
  readonly nodeId: string
  readonly #send: (wakeUp: WakeUp) => void
  readonly #onClose: (tail: RemoteTail) => void
  #closed = false

  constructor(options: {
    readonly streamId: string
    readonly call: string
    readonly nodeId: string
    readonly send: (wakeUp: WakeUp) => void
    readonly onClose: (tail: RemoteTail) => void
  }) {
    this.streamId = options.streamId
    this.call = options.call
    this.nodeId = options.nodeId
    this.#send = options.send
    this.#onClose = options.onClose
  }

  push(update: Update): void {
    this.#tell({ tail: this.call, update })
    if (isLast(update)) this.drop()
  }

  opened(): void {}

  /** What is not in the log waits there until it is: a wake-up may be lost, and goes the same way as the store. */
  pushUnstored(): void {}

  /** The edge keeps its own clients' connections alive. */
  keepAlive(): void {}

  cut(retry?: number): void {
    this.#tell({ tail: this.call, over: 'cut', retry })
    this.drop()
  }

  close(): void {
    this.#tell({ tail: this.call, over: 'close' })
    this.drop()
  }

  moved(): void {
    this.#tell({ tail: this.call, over: 'moved' })
    this.drop()
  }

  /** Nobody listens there any more. */
  drop(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
  }

  #tell(wakeUp: WakeUp): void {
    if (!this.#closed) this.#send(wakeUp)
  }
}
