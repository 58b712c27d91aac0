import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import { type Bus, nodeChannel } from '../../store/port.ts'
import type { Terminated } from '../../store/shared/announced-sessions.ts'
import type { Update } from '../streams/tail.ts'

/** What the owner of a session tells a node about one of the streams that it serves to a client. */
export interface WakeUp {
  /** The call that the edge named its tail by. */
  readonly tail: string
  /** The events themselves where they are small; without them: look into the log. */
  readonly update?: Update
  /** `finite`: nobody writes to that stream any more; it ends after what is stored. */
  readonly over?: 'cut' | 'close' | 'moved' | 'finite'
  readonly retry?: number | undefined
}

interface Bundle {
  readonly from: string
  /** Counts the wake-ups from one node to another, so that a lost one is noticed. */
  readonly count: number
  readonly wakeUps: readonly WakeUp[]
  /** The sender is leaving. */
  readonly bye?: true
}

// PostgreSQL carries up to 8,000 bytes in a notification.
const MAX_TEXT = 7000

/** Sends wake-ups; those of one turn of the event loop for one node travel together. */
export class WakeUpSender {
  readonly #bus: Bus
  readonly #logger: Logger
  /** Named each time, because a node may come back under another id. */
  readonly #from: () => string | undefined
  readonly #counts = new Map<string, number>()
  #waiting = new Map<string, WakeUp[]>()
  #scheduled = false

  constructor(bus: Bus, logger: Logger, from: () => string | undefined) {
    this.#bus = bus
    this.#logger = logger
    this.#from = from
  }

  send(nodeId: string, wakeUp: WakeUp): void {
    const waiting = this.#waiting.get(nodeId)
    if (waiting) waiting.push(wakeUp)
    else this.#waiting.set(nodeId, [wakeUp])
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => void this.flush())
  }

  /** Only the count: whoever missed the last wake-up learns of it now. */
  heartbeat(nodeId: string): Promise<void> {
    return this.#publish(nodeId, [])
  }

  /** Tells a peer that this node is leaving. */
  bye(nodeId: string): Promise<void> {
    return this.#publish(nodeId, [], true)
  }

  forget(nodeId: string): void {
    this.#counts.delete(nodeId)
  }

  async flush(): Promise<void> {
    this.#scheduled = false
    const waiting = this.#waiting
    this.#waiting = new Map()
    await Promise.all([...waiting].map(([nodeId, wakeUps]) => this.#publish(nodeId, wakeUps)))
  }

  async #publish(nodeId: string, wakeUps: readonly WakeUp[], bye = false): Promise<void> {
    const from = this.#from()
    if (from === undefined) return
    for (const bundle of split(wakeUps)) {
      const count = (this.#counts.get(nodeId) ?? 0) + bundle.length
      this.#counts.set(nodeId, count)
      const text = JSON.stringify({ from, count, wakeUps: bundle, ...(bye && { bye }) } satisfies Bundle)
      try {
        await this.#bus.publish(nodeChannel(nodeId), text)
      } catch (error) {
        // Only a hint is lost: the count tells the receiver.
        this.#logger.warn(
          { operation: 'publish', node: nodeId, error: errorText(error) },
          'a wake-up was not sent',
        )
      }
    }
  }
}

/** Bundles that fit; a wake-up that does not fit by itself goes without its events. */
function split(wakeUps: readonly WakeUp[]): readonly (readonly WakeUp[])[] {
  const bundles: WakeUp[][] = [[]]
  let size = 0
  for (const wakeUp of wakeUps) {
    const length = Buffer.byteLength(JSON.stringify(wakeUp))
    const fits = length <= MAX_TEXT
    // Too large to be told: the log has it.
    const told = fits ? wakeUp : { tail: wakeUp.tail, ...(wakeUp.over && { over: wakeUp.over }) }
    const toldLength = fits ? length : 100
    if (size + toldLength > MAX_TEXT) {
      bundles.push([])
      size = 0
    }
    bundles.at(-1)!.push(told)
    size += toldLength
  }
  return bundles
}

export interface WakeUpHandlers {
  readonly onWakeUp: (wakeUp: WakeUp, from: string) => void
  /** Something from that node was missed: look at every stream that it feeds. */
  readonly onMissed: (from: string) => void
  readonly onBye: (from: string) => void
  /** An operator has terminated a session that this node holds. */
  readonly onTerminated: (sessionId: string) => void
}

/** Receives wake-ups, and notices the lost ones by the count. */
export class WakeUpReceiver {
  readonly #counts = new Map<string, number>()
  readonly #handlers: WakeUpHandlers

  constructor(handlers: WakeUpHandlers) {
    this.#handlers = handlers
  }

  receive(text: string): void {
    const told = JSON.parse(text) as Bundle | Terminated
    if ('terminated' in told) {
      this.#handlers.onTerminated(told.terminated)
      return
    }
    const { from, count, wakeUps, bye } = told
    const expected = (this.#counts.get(from) ?? 0) + wakeUps.length
    this.#counts.set(from, count)
    for (const wakeUp of wakeUps) this.#handlers.onWakeUp(wakeUp, from)
    if (count !== expected) this.#handlers.onMissed(from)
    if (bye) this.#handlers.onBye(from)
  }

  forget(nodeId: string): void {
    this.#counts.delete(nodeId)
  }
}
