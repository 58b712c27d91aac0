import { readBody } from '../../app/app.ts'
import { delay } from '../../clock.ts'
import { errorText, isPersistError } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { SessionRequest } from '../engine.ts'
import type { OwnerAnswer, RemoteListener } from '../live/live-session.ts'
import type { Identity, Node } from '../ownership/membership.ts'
import type { Directory, Holder } from '../ownership/owned-sessions.ts'
import type { RemoteTail } from '../streams/remote-subscriber.ts'
import type { Tail } from '../streams/tail.ts'
import { Edge, type Followed } from './forwarder.ts'
import {
  type FollowLetter,
  fromWire,
  type Letter,
  type ReplyLetter,
  type RequestLetter,
  type StreamRef,
  type UnfollowLetter,
} from './letters.ts'
import { Mailroom } from './mailroom.ts'
import { type WakeUp, WakeUpReceiver, WakeUpSender } from './wake-ups.ts'

// Milliseconds: one question for each peer, so that those who only listen are not left waiting for a dead owner.
const CHECK = 1000
/** How often the owner of a stream is looked for: it may change a few times in a row, not for ever. */
const MAX_HOMES = 10

export interface PeersOptions {
  readonly directory: Directory
  readonly settings: Settings
  readonly node: Node
  readonly holder: Holder
  readonly newTail: (sessionId: string, stream: StreamRef, onClose: () => void) => Tail
  /** Answers a request for a session that this node owns. */
  readonly serve: (request: SessionRequest) => Promise<OwnerAnswer | 'moved' | 'gone'>
}

/** The other nodes: letters in and out, wake-ups in and out, and who of them is gone. */
export class Peers {
  readonly #options: PeersOptions
  readonly #mailroom: Mailroom
  readonly #sender: WakeUpSender
  readonly #receiver: WakeUpReceiver
  readonly edge: Edge
  /** Streams whose next owner is being looked for; true: look again. */
  readonly #rehoming = new Map<Followed, boolean>()
  /** Everybody who has sent a letter here: they want to hear when this node leaves. */
  readonly #known = new Set<string>()
  /** The streams of sessions here whose clients are at other nodes, by node: nobody has to go through all sessions. */
  readonly #followers = new Map<string, Set<RemoteTail>>()
  #timer: NodeJS.Timeout | undefined
  #checking: Promise<void> | undefined
  #closed = false

  constructor(options: PeersOptions) {
    const { directory, settings, node, newTail } = options
    const { bus, nodes } = directory
    const { logger } = settings
    this.#options = options
    this.#mailroom = new Mailroom({
      bus,
      nodes,
      logger,
      onLetter: (letter) => this.#onLetter(letter),
      onWakeUps: (text) => this.#onWakeUps(text),
    })
    this.#sender = new WakeUpSender(bus, logger, () => node.id)
    this.edge = new Edge({
      post: (nodeId, letter) => this.#mailroom.post(nodeId, letter),
      nodeId: () => node.id,
      newTail,
      onOrphaned: (followed) => void this.#rehome(followed),
      logger,
    })
    this.#receiver = new WakeUpReceiver({
      onWakeUp: (wakeUp, from) => this.edge.onWakeUp(wakeUp, from),
      onMissed: (from) => this.edge.onMissed(from),
      onBye: (from) => this.#gone(from),
      onTerminated: (sessionId) => void this.#onTerminated(sessionId),
    })
  }

  async open(identity: Identity): Promise<void> {
    await this.#mailroom.open(identity)
    if (this.#timer || this.#closed) return
    this.#timer = setInterval(() => this.check(), Math.min(this.#options.settings.lease / 3, CHECK))
    this.#timer.unref()
  }

  /** Looks after everybody this node depends on, or who depends on it: the floor below lost wake-ups. */
  check(): Promise<void> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined
    })
    return this.#checking
  }

  /** Ends what is served here, answers the letters that are still in the box, and says goodbye. */
  async close(retry: number): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#checking
    this.edge.close(retry)
    await this.#mailroom.collect()
    this.edge.abandon()
    await this.#sender.flush()
    await Promise.all([...this.#known].map((nodeId) => this.#sender.bye(nodeId)))
    await this.#mailroom.close()
  }

  #listener(nodeId: string, call: string): RemoteListener {
    return {
      nodeId,
      call,
      send: (wakeUp) => this.#sender.send(nodeId, wakeUp),
      onFollow: (tail) => {
        const tails = this.#followers.get(nodeId) ?? new Set()
        this.#followers.set(nodeId, tails.add(tail))
      },
      onLeft: (tail) => {
        const tails = this.#followers.get(nodeId)
        tails?.delete(tail)
        if (tails?.size === 0) this.#followers.delete(nodeId)
      },
    }
  }

  async #check(): Promise<void> {
    const { directory, settings } = this.#options
    void this.#mailroom.collect()
    const followers = this.#followers
    for (const nodeId of new Set([...this.edge.owners(), ...followers.keys(), ...this.#known])) {
      try {
        if ((await directory.nodes.get(nodeId)) === undefined) this.#gone(nodeId)
        else if (followers.has(nodeId)) await this.#sender.heartbeat(nodeId)
      } catch (error) {
        settings.logger.warn(
          { operation: 'check', node: nodeId, error: errorText(error) },
          'a node cannot be checked',
        )
        return
      }
    }
  }

  #gone(nodeId: string): void {
    this.#sender.forget(nodeId)
    this.#receiver.forget(nodeId)
    this.#known.delete(nodeId)
    for (const tail of [...(this.#followers.get(nodeId) ?? [])]) tail.drop()
    this.edge.onGone(nodeId)
  }

  #onWakeUps(text: string): void {
    try {
      this.#receiver.receive(text)
    } catch (error) {
      this.#options.settings.logger.warn({ error: errorText(error) }, 'a wake-up could not be understood')
    }
  }

  async #onTerminated(sessionId: string): Promise<void> {
    const { holder } = this.#options
    const live = holder.live.get(sessionId)
    if (live) await holder.forget(live, true)
  }

  #onLetter(letter: Letter): void {
    if ('from' in letter) this.#known.add(letter.from)
    const handled = this.#handle(letter)
    handled.catch((error: unknown) => {
      const { logger } = this.#options.settings
      logger.error({ letter: letter.type, error: errorText(error) }, 'a letter could not be handled')
    })
  }

  async #handle(letter: Letter): Promise<void> {
    switch (letter.type) {
      case 'request':
        return this.#onRequest(letter)
      case 'reply':
        return this.edge.onReply(letter)
      case 'follow':
        return this.#onFollow(letter)
      case 'unfollow':
        return this.#onUnfollow(letter)
    }
  }

  async #onRequest({ from, call, request, ...asked }: RequestLetter): Promise<void> {
    const reply = (answer: ReplyLetter['answer']) =>
      this.#mailroom.post(from, { type: 'reply', call, answer })
    const { serve } = this.#options
    let answer: OwnerAnswer | 'moved' | 'gone'
    try {
      answer = await serve({ ...asked, request: fromWire(request), remote: this.#listener(from, call) })
    } catch (error) {
      await reply(failure(errorText(error)))
      throw error
    }
    if (answer === 'moved' || answer === 'gone') return void (await reply(answer))
    const { status, headers } = answer
    if ('stream' in answer) return void (await reply({ status, headers, stream: answer.stream }))
    const body = 'response' in answer ? await readBody(answer.response) : 'body' in answer ? answer.body : ''
    await reply({ status, headers, body: Buffer.from(body).toString('base64') })
  }

  async #onFollow({ from, call, sessionId, streamId, principal, request }: FollowLetter): Promise<void> {
    const { holder, settings } = this.#options
    const send = (wakeUp: WakeUp) => this.#sender.send(from, wakeUp)
    try {
      const found = await holder.find(sessionId, principal, fromWire(request), { own: true })
      if ('live' in found) found.live.audience.follow(streamId, this.#listener(from, call))
      else if ('missing' in found) send({ tail: call, over: 'close' })
      else if ('moved' in found) send({ tail: call, over: 'moved' })
      else send({ tail: call, over: 'cut', retry: settings.retryInterval })
    } catch (error) {
      send({ tail: call, over: 'cut', retry: settings.retryInterval })
      throw error
    }
  }

  async #onUnfollow({ call, sessionId, streamId, delivered }: UnfollowLetter): Promise<void> {
    this.#options.holder.live.get(sessionId)?.audience.unfollowed(call, streamId, delivered)
  }

  /**
   * The owner of a stream that is served here is gone. Whoever serves a client of the session claims it without
   * waiting for a request, in the name of the client's own last one; the client notices nothing.
   */
  async #rehome(followed: Followed): Promise<void> {
    // One at a time for each stream; what comes meanwhile makes it look once more.
    if (this.#rehoming.has(followed)) return void this.#rehoming.set(followed, true)
    const { tail } = followed
    const { logger, retryInterval } = this.#options.settings
    let home = false
    for (let attempt = 1; attempt <= MAX_HOMES && !home && !tail.closed; attempt += 1) {
      if (attempt > 1) await delay(20 * attempt)
      this.#rehoming.set(followed, false)
      try {
        home = (await this.#findHome(followed)) && !this.#rehoming.get(followed)
      } catch (error) {
        const facts = { sessionId: followed.sessionId, error: errorText(error) }
        logger.warn(facts, 'the owner of a stream could not be found')
        if (!isPersistError(error, 'STORE_UNAVAILABLE')) break
      }
    }
    this.#rehoming.delete(followed)
    // Its client looks for a home itself.
    if (!home) tail.cut(retryInterval)
  }

  /** True: somebody feeds the tail again, or it is over. */
  async #findHome(followed: Followed): Promise<boolean> {
    const { holder, settings } = this.#options
    const { sessionId, principal, request, tail } = followed
    const found = await holder.find(sessionId, principal, request)
    if ('owner' in found) return this.edge.refollow(followed, found.owner)
    if ('live' in found) {
      this.edge.release(followed)
      found.live.audience.adopt(tail)
    } else if ('missing' in found) tail.close()
    else tail.cut(settings.retryInterval)
    return true
  }
}

function failure(reason: string): ReplyLetter['answer'] {
  const message = `The session's node could not answer: ${reason}`
  const body = JSON.stringify({ jsonrpc: '2.0', error: { code: -32603, message }, id: null })
  return {
    status: 500,
    headers: [['content-type', 'application/json']],
    body: Buffer.from(body).toString('base64'),
  }
}
