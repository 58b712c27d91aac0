import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { Bus, NodeTable, Subscription } from '../../store/port.ts'
import { commonVersion, isIn, MESSAGES, readProfile } from '../../versions.ts'
import type { Identity } from '../ownership/membership.ts'
import {
  decodeBundle,
  type Encoded,
  encodeBundle,
  encodeItem,
  header,
  type Item,
  isNotSpoken,
  notSpoken,
  openEnvelope,
  sizeOf,
} from './message.ts'
import { PairKeys } from './sealing.ts'

/** Bytes of a bundle that stays small: sealed and in base64 it fits into the smallest push, PostgreSQL's 8,000. */
export const SMALL = 5_500
/** Bytes that may wait for one node. Beyond it what comes is dropped, as a message may be. */
const MAX_WAITING = 64 * 1024 * 1024

export interface LinkOptions<I extends Item> {
  readonly bus: Bus
  readonly nodes: NodeTable
  readonly logger: Logger
  readonly onItem: (from: string, item: I, body: Uint8Array | undefined) => void
  /** The node is known to be gone: nothing that is said to it arrives. */
  readonly onGone: (nodeId: string) => void
  /** It is there, and we have no version in common with it. */
  readonly onNotSpoken: (nodeId: string) => void
  /** Anybody's messages may have been missed. */
  readonly onMissed: () => void
}

interface Outbox {
  readonly parts: Encoded[]
  bytes: number
  sending: Promise<void> | undefined
}

interface Peer {
  readonly keys: PairKeys
  /** Undefined: we have no version in common. */
  readonly version: number | undefined
}

/**
 * The way from this node to any other and back: best effort, sealed, bundled. Whatever is said to one node in a turn of
 * the event loop, or while the bundle before is on its way, travels together. An item may be lost, doubled, delayed or
 * overtaken; nothing is tried again here.
 */
export class Link<I extends Item> {
  readonly #options: LinkOptions<I>
  readonly #outboxes = new Map<string, Outbox>()
  /** A node's key never changes, and an id is never used again. */
  readonly #peers = new Map<string, Promise<Peer | undefined>>()
  #identity: Identity | undefined
  #subscription: Subscription | undefined

  constructor(options: LinkOptions<I>) {
    this.#options = options
  }

  /** Receives for `identity` from now on; a node that comes back under a new one calls it again. Rejects when it cannot. */
  async open(identity: Identity): Promise<void> {
    await this.close()
    this.#identity = identity
    this.#subscription = await this.#options.bus.receive(identity.id, (message) => {
      if (this.#identity !== identity) return
      if (message === undefined) this.#options.onMissed()
      else void this.#receive(message, identity)
    })
  }

  send(nodeId: string, item: I, body?: Uint8Array): void {
    const outbox = this.#outboxes.get(nodeId) ?? { parts: [], bytes: 0, sending: undefined }
    this.#outboxes.set(nodeId, outbox)
    if (outbox.bytes > MAX_WAITING) return
    const part = encodeItem(item, body)
    outbox.parts.push(part)
    outbox.bytes += sizeOf(part)
    outbox.sending ??= this.#sendAll(nodeId, outbox)
  }

  /** Resolves when what was said until now is on its way. */
  async flush(): Promise<void> {
    await Promise.all([...this.#outboxes.values()].map(({ sending }) => sending))
  }

  /** That node is gone for good. */
  forget(nodeId: string): void {
    this.#peers.delete(nodeId)
  }

  async close(): Promise<void> {
    await this.flush()
    this.#identity = undefined
    this.#outboxes.clear()
    this.#peers.clear()
    const subscription = this.#subscription
    this.#subscription = undefined
    await subscription?.close()
  }

  async #sendAll(nodeId: string, outbox: Outbox): Promise<void> {
    // The rest of what this turn has to say comes before setImmediate does.
    await new Promise((resolve) => setImmediate(resolve))
    while (outbox.parts.length > 0) {
      const parts = takeBundle(outbox.parts)
      outbox.bytes -= parts.reduce((sum, part) => sum + sizeOf(part), 0)
      await this.#sendBundle(nodeId, parts)
    }
    this.#outboxes.delete(nodeId)
  }

  async #sendBundle(nodeId: string, parts: readonly Encoded[]): Promise<void> {
    const { bus, logger, onGone, onNotSpoken } = this.#options
    const identity = this.#identity
    if (!identity) return
    try {
      const peer = await this.#peer(nodeId, identity)
      if (!peer) return onGone(nodeId)
      if (peer.version === undefined) return onNotSpoken(nodeId)
      const head = header(identity.id, peer.version)
      const message = Buffer.concat([head, peer.keys.seal(head, encodeBundle(parts))])
      if (!(await bus.send(nodeId, message))) onGone(nodeId)
    } catch (error) {
      // Whoever needs an answer says it again.
      logger.debug({ operation: 'send', node: nodeId, error: errorText(error) }, 'a message was not sent')
    }
  }

  async #receive(message: Uint8Array, identity: Identity): Promise<void> {
    const { bus, logger, onItem, onNotSpoken } = this.#options
    try {
      const envelope = openEnvelope(message)
      const { from, version } = envelope
      if (isNotSpoken(envelope)) return onNotSpoken(from)
      if (!isIn(MESSAGES, version)) return void (await bus.send(from, notSpoken(identity.id)))
      // A node that is not registered (any more) is not answered: what it says late must not be done.
      const peer = await this.#peer(from, identity)
      if (!peer || this.#identity !== identity) return
      for (const { item, body } of decodeBundle<I>(peer.keys.open(envelope.header, envelope.sealed))) {
        onItem(from, item, body)
      }
    } catch (error) {
      logger.warn(
        { operation: 'receive', error: errorText(error) },
        'a message was not understood and is dropped',
      )
    }
  }

  #peer(nodeId: string, identity: Identity): Promise<Peer | undefined> {
    const known = this.#peers.get(nodeId)
    if (known) return known
    const found = this.#find(nodeId, identity)
    this.#peers.set(nodeId, found)
    // Only what was found is remembered.
    found.then(
      (peer) => peer ?? this.#peers.delete(nodeId),
      () => this.#peers.delete(nodeId),
    )
    return found
  }

  async #find(nodeId: string, identity: Identity): Promise<Peer | undefined> {
    const record = await this.#options.nodes.get(nodeId)
    if (!record) return undefined
    const version = commonVersion(MESSAGES, readProfile(record.profile).messages)
    if (version === undefined) {
      this.#options.logger.error(
        { node: nodeId },
        'that node runs a release that this one has no language in common with; its sessions are not served here',
      )
    }
    return { keys: new PairKeys(identity, nodeId, record.publicKey), version }
  }
}

/** What travels together: as much as stays small, or one large item by itself. */
function takeBundle(parts: Encoded[]): Encoded[] {
  let bytes = 0
  let count = 0
  for (const part of parts) {
    bytes += sizeOf(part)
    if (count > 0 && bytes > SMALL) break
    count += 1
  }
  return parts.splice(0, count)
}
