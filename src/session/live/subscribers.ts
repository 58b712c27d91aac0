import type { HeaderPairs } from '../../app/app.ts'
import { delay } from '../../clock.ts'
import type { EventLog } from '../../store/port.ts'
import type { StreamRef } from '../cluster/letters.ts'
import { RemoteTail } from '../streams/remote-subscriber.ts'
import type { SessionLog } from '../streams/session-log.ts'
import type { Listener } from '../streams/subscriber.ts'
import type { Tail } from '../streams/tail.ts'
import type { Handling, OwnerAnswer, RemoteListener } from './live-session.ts'

/** The stream of the standalone GET, by the name that the SDK gives it in every session. */
export const STANDALONE = '_GET_stream'

// Milliseconds that another node has to say how far its client has got.
const HAND_BACK = 500

export interface AudienceOptions {
  readonly sessionId: string
  readonly store: EventLog
  readonly log: SessionLog
  /** The last standalone position delivered to the client. */
  readonly delivered: number
  /** The same, anywhere, as far as the store knows. */
  readonly readDelivered: () => Promise<number>
  /** A client's stream in this process. */
  readonly newTail: (sessionId: string, stream: StreamRef, onClose: () => void) => Tail
  /** Will anybody still write to that stream? */
  readonly isWritten: (streamId: string) => boolean
  readonly onLeft: () => void
}

/** Who listens to a live session: clients of this process, and nodes that serve clients of theirs. */
export class Audience {
  readonly #options: AudienceOptions
  #delivered: number
  #over = false
  /** Tails at other nodes that have been told to end, by their calls. */
  readonly #leaving = new Map<string, () => void>()

  constructor(options: AudienceOptions) {
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
    return { status: 200, headers, tail }
  }

  /**
   * Where a standalone stream begins for a client that does not say how far it has got: after the last event that was
   * ever delivered to it. Whoever served it until now ends first, here and at other nodes, and says how far it got.
   */
  async standalone(): Promise<Pick<StreamRef, 'streamId' | 'after' | 'epoch'>> {
    const { sessionId, store, readDelivered } = this.#options
    const remote = this.#remoteTails().filter(({ streamId }) => streamId === STANDALONE)
    const left = remote.map(({ call }) => new Promise<void>((resolve) => this.#leaving.set(call, resolve)))
    this.end(STANDALONE)
    if (left.length > 0) await Promise.race([Promise.all(left), delay(HAND_BACK)])
    for (const { call } of remote) this.#leaving.delete(call)
    this.#raise(await readDelivered())
    const page = await store.read({ sessionId, streamId: STANDALONE, after: this.#delivered, limit: 1 })
    return { streamId: STANDALONE, after: this.#delivered, epoch: page.epoch }
  }

  /** Ends the responses of a stream: the newest connection wins, for the older may be half open, and its client gone. */
  end(streamId: string): void {
    for (const listener of this.#options.log.listeners(streamId)) listener.close()
  }

  /** A node that serves a stream of this session to a client, and whose former owner is gone. */
  follow(streamId: string, remote: RemoteListener): void {
    this.#attachRemote(streamId, remote)
    // What was stored between that node's last look and this moment was told to nobody: it looks once more.
    const over = this.#options.isWritten(streamId) ? {} : { over: 'finite' as const }
    remote.send({ tail: remote.call, ...over })
  }

  /** The same for a client of this process, whose stream was served from elsewhere until now. */
  adopt(tail: Tail): void {
    tail.onClose = () => this.#closed(tail)
    this.#options.log.attach(tail)
    tail.finite = !this.#options.isWritten(tail.streamId)
  }

  /** The client of a tail at another node has gone, after `delivered`. */
  unfollowed(call: string, streamId: string, delivered: number): void {
    if (streamId === STANDALONE) this.#raise(delivered)
    this.#remoteTails()
      .find((tail) => tail.call === call)
      ?.drop()
    this.#leaving.get(call)?.()
  }

  keepAlive(): void {
    for (const listener of this.#options.log.allListeners()) listener.keepAlive()
  }

  /** Ends the responses of the clients of this process; they resume elsewhere, after `retry` ms. */
  cutClients(retry: number): void {
    for (const listener of this.#options.log.allListeners()) if (!listener.remote) listener.cut(retry)
  }

  /** The session leaves this node in good order: those who listen elsewhere follow it, the others come again. */
  moveAway(retry: number): void {
    for (const listener of this.#options.log.allListeners()) listener.moved(retry)
  }

  close(): void {
    this.#over = true
    for (const listener of this.#options.log.allListeners()) listener.close()
  }

  #attachRemote(streamId: string, { nodeId, call, send, onFollow, onLeft }: RemoteListener): void {
    for (const former of this.#remoteTails()) if (former.call === call) former.drop()
    const onClose = (closed: RemoteTail) => {
      onLeft(closed)
      this.#left(closed)
    }
    const tail = new RemoteTail({ streamId, call, nodeId, send, onClose })
    this.#options.log.attach(tail)
    // Nobody would end it any more: a call may come back from the app after its session has left this node.
    if (!this.#over) onFollow(tail)
  }

  #remoteTails(): readonly RemoteTail[] {
    return this.#options.log.allListeners().filter((listener) => listener instanceof RemoteTail)
  }

  #closed(tail: Tail): void {
    if (tail.streamId === STANDALONE) this.#raise(tail.delivered)
    this.#left(tail)
  }

  #left(listener: Listener): void {
    this.#options.log.detach(listener)
    this.#options.onLeft()
  }

  #raise(delivered: number): void {
    this.#delivered = Math.max(this.#delivered, delivered)
  }
}
