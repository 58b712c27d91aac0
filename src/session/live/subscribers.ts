import type { HeaderPairs } from '../../app/app.ts'
import { delay } from '../../clock.ts'
import type { EventLog } from '../../store/port.ts'
import type { NewTail } from '../streams/new-tail.ts'
import { type RemoteSide, RemoteSubscriber } from '../streams/remote-subscriber.ts'
import type { SessionLog } from '../streams/session-log.ts'
import { STANDALONE, type StreamRef } from '../streams/stream.ts'
import type { Subscriber } from '../streams/subscriber.ts'
import type { Tail } from '../streams/tail.ts'
import type { Handling, OwnerAnswer } from './handling.ts'

// Milliseconds that another node has to say how far its client has got.
const HAND_BACK = 500

export interface SubscribersOptions {
  readonly sessionId: string
  readonly store: EventLog
  readonly log: SessionLog
  /** The last standalone position delivered to the client. */
  readonly delivered: number
  /** The same, anywhere, as far as the store knows. */
  readonly readDelivered: () => Promise<number>
  readonly newTail: NewTail
  /** Will anybody still write to that stream? */
  readonly isWritten: (streamId: string) => boolean
  /** Somebody who followed that stream has gone. */
  readonly onLeft: (streamId: string) => void
}

/** Who follows the streams of a live session: clients of this process, and nodes that serve clients of theirs. */
export class Subscribers {
  readonly #options: SubscribersOptions
  #delivered: number
  #over = false

  constructor(options: SubscribersOptions) {
    this.#options = options
    this.#delivered = options.delivered
  }

  /** The last standalone position delivered to the client, as far as this node knows. */
  get delivered(): number {
    return this.#delivered
  }

  /** Lets whoever has asked follow a stream. */
  attach(stream: StreamRef, headers: HeaderPairs, { remote }: Handling): OwnerAnswer {
    const { sessionId, log, newTail } = this.#options
    if (remote) {
      this.#attachRemote(stream.streamId, remote)
      return { status: 200, headers, stream }
    }
    const tail: Tail = newTail(sessionId, stream, () => this.#closed(tail))
    log.attach(tail)
    // As for another node's: its client is to come again, for nobody here would write to it.
    if (this.#over) tail.cut()
    return { status: 200, headers, tail }
  }

  /**
   * Where a standalone stream begins for a client that does not say how far it has got: after the last event that was
   * ever delivered to it. Whoever served it until now ends first, here and at other nodes, and says how far it got.
   */
  async standalone(): Promise<Pick<StreamRef, 'streamId' | 'after' | 'epoch'>> {
    const { sessionId, store, log, readDelivered } = this.#options
    const remote = log.listeners(STANDALONE).filter((each) => each instanceof RemoteSubscriber)
    this.end(STANDALONE)
    const left = remote.map((each) => each.left.then((delivered) => this.#raise(delivered)))
    if (left.length > 0) await Promise.race([Promise.all(left), delay(HAND_BACK)])
    this.#raise(await readDelivered())
    const page = await store.read({ sessionId, streamId: STANDALONE, after: this.#delivered, limit: 1 })
    return { streamId: STANDALONE, after: this.#delivered, epoch: page.epoch }
  }

  /** Ends the responses of a stream: the newest connection wins, for the older may be half open, and its client gone. */
  end(streamId: string): void {
    for (const subscriber of this.#options.log.listeners(streamId)) subscriber.close()
  }

  /**
   * A node that serves a stream of this session to a client, and whose former owner is gone. True: nobody writes to it.
   * Which of two is the client's newer one died with that owner. So the last to ask is the one: where it is not, its client
   * comes again, and nothing goes to both.
   */
  follow(streamId: string, remote: RemoteSide): boolean {
    const finite = !this.#options.isWritten(streamId)
    this.end(streamId)
    const subscriber = this.#attachRemote(streamId, remote)
    if (finite) subscriber.endAfterStored()
    return finite
  }

  /** The same for a client of this process, whose stream was served from elsewhere until now. */
  adopt(tail: Tail): void {
    tail.onClose = () => this.#closed(tail)
    this.#options.log.attach(tail)
    if (this.#options.isWritten(tail.streamId)) tail.goOn()
    else tail.endAfterStored()
  }

  keepAlive(): void {
    for (const subscriber of this.#options.log.allListeners()) subscriber.keepAlive()
  }

  /** Ends the responses of the clients of this process; they resume elsewhere, after `retry` ms. */
  cutClients(retry: number): void {
    for (const subscriber of this.#options.log.allListeners()) if (!subscriber.remote) subscriber.cut(retry)
  }

  /** The session leaves this node in good order: those who listen elsewhere follow it, the others come again. */
  moveAway(retry: number): void {
    for (const subscriber of this.#options.log.allListeners()) subscriber.moved(retry)
  }

  close(): void {
    this.#over = true
    for (const subscriber of this.#options.log.allListeners()) subscriber.close()
  }

  #attachRemote(streamId: string, remote: RemoteSide): RemoteSubscriber {
    const subscriber = remote.subscribe(streamId, (over) => {
      if (streamId === STANDALONE) void over.left.then((delivered) => this.#raise(delivered))
      this.#left(over)
    })
    // Nobody heard of it in time.
    if (subscriber.over) return subscriber
    this.#options.log.attach(subscriber)
    // A call may come back from the app after its session has left this node: nobody would end its stream any more.
    if (this.#over) subscriber.moved()
    return subscriber
  }

  #closed(tail: Tail): void {
    if (tail.streamId === STANDALONE) this.#raise(tail.delivered)
    this.#left(tail)
  }

  #left(subscriber: Subscriber): void {
    this.#options.log.detach(subscriber)
    this.#options.onLeft(subscriber.streamId)
  }

  #raise(delivered: number): void {
    this.#delivered = Math.max(this.#delivered, delivered)
  }
}
