import { isLast, type Update } from './stream.ts'
import type { Subscriber } from './subscriber.ts'

/** How a stream is over for the node that follows it. */
export type Over =
  /** Its client is to come again, after it has everything up to `at`. */
  | { readonly over: 'cut'; readonly at?: number; readonly retry?: number | undefined }
  /** Its client's response ends: another one has taken its place, or the session is over. */
  | { readonly over: 'close' }
  /** The session has left this node: look for its next owner. */
  | { readonly over: 'moved' }
  /** Nobody writes to the stream any more: it ends after what is stored. */
  | { readonly over: 'finite' }

/** What the owner tells a node about a stream that it follows. */
export type News = { readonly update: Update } | Over | { readonly look: true }

/** A node that wants to follow a stream here for a client of its own. */
export interface RemoteSide {
  /** `onOver` is told once, when the stream is over for that node; nothing more is told to it then. */
  subscribe(streamId: string, onOver: (subscriber: RemoteSubscriber) => void): RemoteSubscriber
  /** It has said lately that it waits for something here. */
  readonly isWaiting: () => boolean
}

/** The owner's end of a stream whose client is at another node: what would be written here is told to that node. */
export class RemoteSubscriber implements Subscriber {
  readonly remote = true
  /** What is not in the log is not for it. */
  readonly live = false
  readonly resumable = true
  readonly streamId: string
  readonly #tell: (news: News) => void
  readonly #onOver: (subscriber: RemoteSubscriber) => void
  #over: Over | undefined
  #left: (delivered: number) => void = () => {}
  /** Resolves with the last position written to the client, when that node says that the client has gone. */
  readonly left = new Promise<number>((resolve) => {
    this.#left = resolve
  })

  constructor(streamId: string, tell: (news: News) => void, onOver: (subscriber: RemoteSubscriber) => void) {
    this.streamId = streamId
    this.#tell = tell
    this.#onOver = onOver
  }

  /** How it is over; undefined: it is not. */
  get over(): Over | undefined {
    return this.#over
  }

  push(update: Update): void {
    if (this.#over) return
    this.#tell({ update })
    // The end is told with it; should that be lost, the node will ask how this stream is over.
    if (isLast(update)) this.#end({ over: 'finite' })
  }

  opened(): void {}

  /** What is not in the log waits until it is: a message between nodes may be lost, and goes the same way as the store. */
  pushUnstored(): void {}

  /** The node keeps its own clients' connections alive. */
  keepAlive(): void {}

  /** Look into the log. */
  look(): void {
    if (!this.#over) this.#tell({ look: true })
  }

  cut(retry?: number): void {
    this.#tellOver({ over: 'cut', retry })
  }

  cutAfter(at: number, retry?: number): void {
    this.#tellOver({ over: 'cut', at, retry })
  }

  close(): void {
    this.#tellOver({ over: 'close' })
  }

  moved(): void {
    this.#tellOver({ over: 'moved' })
  }

  endAfterStored(): void {
    this.#tellOver({ over: 'finite' })
  }

  /** Its client has gone, after `delivered`. */
  leave(delivered: number): void {
    this.#left(delivered)
    this.#end({ over: 'close' })
  }

  /** That node does not follow it any more, or is gone. */
  drop(): void {
    this.#end({ over: 'close' })
  }

  #tellOver(over: Over): void {
    if (this.#over) return
    this.#tell(over)
    this.#end(over)
  }

  #end(over: Over): void {
    if (this.#over) return
    this.#over = over
    this.#onOver(this)
  }
}
