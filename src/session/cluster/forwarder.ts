import { randomBytes } from 'node:crypto'
import type { AppRequest } from '../../app/app.ts'
import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { callerOf } from '../live/local-app.ts'
import { STANDALONE } from '../live/subscribers.ts'
import type { Answer } from '../protocol/answer.ts'
import { isLast, type Tail } from '../streams/tail.ts'
import { type Letter, type ReplyLetter, type StreamRef, toWire } from './letters.ts'
import type { WakeUp } from './wake-ups.ts'

export interface EdgeOptions {
  readonly post: (nodeId: string, letter: Letter) => Promise<boolean>
  readonly nodeId: () => string | undefined
  readonly newTail: (sessionId: string, stream: StreamRef, onClose: () => void) => Tail
  /** The owner of a stream that is served here is gone or gave it up: find the next, and follow there. */
  readonly onOrphaned: (followed: Followed) => void
  readonly logger: Logger
}

export interface Forwarded {
  readonly sessionId: string
  readonly principal: string | null
  readonly streamId: string
  readonly again: boolean
  readonly priming: boolean
  readonly request: AppRequest
}

/** A client's stream, served here, of a session that is owned elsewhere. */
export interface Followed {
  readonly call: string
  readonly sessionId: string
  readonly principal: string | null
  readonly request: AppRequest
  readonly tail: Tail
  owner: string
  /** The owner has told the end of the stream, and does not follow its client any more. */
  over?: boolean
}

interface Pending {
  readonly owner: string
  readonly resolve: (answer: ReplyLetter['answer']) => void
}

/** What this node does for clients whose session lives at another: forwards, and serves the answers from the log. */
export class Edge {
  readonly #options: EdgeOptions
  readonly #pending = new Map<string, Pending>()
  readonly #followed = new Map<string, Followed>()

  constructor(options: EdgeOptions) {
    this.#options = options
  }

  /** The nodes that something here depends on. */
  owners(): ReadonlySet<string> {
    return new Set([...this.#pending.values(), ...this.#followed.values()].map(({ owner }) => owner))
  }

  /** `moved`: that node does not own the session. `gone`: it was lost, and may or may not have made the call. */
  async forward(owner: string, forwarded: Forwarded): Promise<Answer | 'moved' | 'gone'> {
    const { sessionId, principal, streamId, again, request } = forwarded
    const { post, nodeId } = this.#options
    const call = randomBytes(9).toString('base64url')
    // Wake-ups may be here before the reply: the tail of a stream that is yet to begin is there to catch them.
    const early = { streamId, after: 0, fresh: true, priming: forwarded.priming }
    if (request.method === 'POST' && !again) this.#follow(call, owner, forwarded, early)
    const answer = await new Promise<ReplyLetter['answer']>((resolve, reject) => {
      this.#pending.set(call, { owner, resolve })
      const from = nodeId()!
      const wire = toWire(request)
      post(owner, { type: 'request', from, call, sessionId, principal, streamId, again, request: wire }).then(
        (posted) => posted || resolve('gone'),
        reject,
      )
    })
      .catch((error: unknown) => {
        this.#followed.delete(call)
        throw error
      })
      .finally(() => this.#pending.delete(call))
    const tail = this.#followed.get(call)?.tail
    if (answer !== 'moved' && answer !== 'gone' && 'stream' in answer) {
      const { status, headers, stream } = answer
      if (tail && stream.fresh) {
        if (stream.opened) tail.begin(stream.opened)
        return { status, headers, tail }
      }
      // What came before this tail was there is in the log, so it begins by reading that.
      return { status, headers, tail: this.#follow(call, owner, forwarded, { ...stream, fresh: false }) }
    }
    this.#followed.delete(call)
    if (answer === 'moved' || answer === 'gone') return answer
    const { status, headers, body } = answer
    return { status, headers, body: Buffer.from(body, 'base64') }
  }

  onReply({ call, answer }: ReplyLetter): void {
    this.#pending.get(call)?.resolve(answer)
  }

  onWakeUp(wakeUp: WakeUp, from: string): void {
    const followed = this.#followed.get(wakeUp.tail)
    if (!followed || followed.owner !== from) return
    const { tail } = followed
    const { update, over, retry } = wakeUp
    if (update && isLast(update)) followed.over = true
    if (update) tail.push(update)
    if (over === 'cut') tail.cut(retry)
    else if (over === 'close') tail.close()
    else if (over === 'finite') tail.finite = true
    else if (over === 'moved') this.#options.onOrphaned(followed)
    else if (!update) tail.nudge()
  }

  /** Something that this owner told us was lost. */
  onMissed(owner: string): void {
    for (const followed of this.#followed.values()) if (followed.owner === owner) followed.tail.nudge()
  }

  onGone(owner: string): void {
    for (const pending of [...this.#pending.values()]) if (pending.owner === owner) pending.resolve('gone')
    for (const followed of [...this.#followed.values()]) {
      if (followed.owner === owner) this.#options.onOrphaned(followed)
    }
  }

  /**
   * This node has another id: what was written to the old one is lost, and the owners take it for gone. Everybody is
   * asked again.
   */
  orphanAll(): void {
    for (const owner of this.owners()) this.onGone(owner)
  }

  /** The next owner is another node again: it is to wake this tail from now on. */
  async refollow(followed: Followed, owner: string): Promise<boolean> {
    const { post, nodeId } = this.#options
    followed.owner = owner
    const { call, sessionId, principal, request, tail } = followed
    const { streamId } = tail
    const caller = { principal, request: toWire(request) }
    return post(owner, { type: 'follow', from: nodeId()!, call, sessionId, streamId, ...caller })
  }

  /** The next owner is this node: the tail is not followed from afar any more. */
  release(followed: Followed): void {
    this.#followed.delete(followed.call)
  }

  /** Does a client here wait for an answer from elsewhere? */
  get busy(): boolean {
    return (
      this.#pending.size > 0 || [...this.#followed.values()].some(({ tail }) => tail.streamId !== STANDALONE)
    )
  }

  keepAlive(): void {
    for (const { tail } of this.#followed.values()) tail.keepAlive()
  }

  /** Ends the standalone streams of the clients here, which would last for ever. */
  cutStandalone(retry: number): void {
    for (const { tail } of [...this.#followed.values()]) if (tail.streamId === STANDALONE) tail.cut(retry)
  }

  /** Nobody will collect the replies that are still to come. */
  abandon(): void {
    for (const pending of [...this.#pending.values()]) pending.resolve('gone')
  }

  /** Ends the streams of all clients here; they come again elsewhere. */
  close(retry: number): void {
    for (const { tail } of [...this.#followed.values()]) tail.cut(retry)
  }

  #follow(call: string, owner: string, forwarded: Forwarded, stream: StreamRef): Tail {
    const { sessionId, principal } = forwarded
    const request = callerOf(forwarded.request)
    const { post, newTail, logger } = this.#options
    const tail = newTail(sessionId, stream, () => {
      const followed = this.#followed.get(call)
      if (!this.#followed.delete(call) || !followed || followed.over) return
      post(followed.owner, {
        type: 'unfollow',
        call,
        sessionId,
        streamId: tail.streamId,
        delivered: tail.delivered,
      }).catch((error) => {
        logger.debug({ sessionId, error: errorText(error) }, 'the owner was not told that a client has gone')
      })
    })
    this.#followed.set(call, { call, sessionId, principal, request, tail, owner })
    return tail
  }
}
