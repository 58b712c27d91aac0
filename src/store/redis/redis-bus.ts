import { randomBytes } from 'node:crypto'
import { PersistError } from '../../errors.ts'
import { type Bus, MESSAGE_LIMIT, nodeChannel, type Subscription } from '../port.ts'
import { READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisNodes } from './redis-nodes.ts'
import { RedisParcels } from './redis-parcels.ts'
import type { RedisSubscriber } from './redis-subscriber.ts'
import { SEND } from './scripts/node.ts'

type OnWake = (text: string | undefined) => void
type OnMessage = (message: Uint8Array | undefined) => void

const NODE_CHANNEL = nodeChannel('')

/**
 * Bytes of a message that still travels inside its publication. Redis keeps what a subscriber has not read yet, and cuts
 * one for which that is more than 8 MiB for a minute, or 32 MiB at all: large messages would be lost by cutting, and
 * with them whatever stood behind.
 */
const INSIDE = 16 * 1024

/** What a publication on a node's channel begins with that is not a text: a message, or the name of a parcel. */
const [MESSAGE, PARCEL] = [1, 2]

/** How long a parcel waits for its receiver, in ms. Whoever wants an answer has sent it again by then. */
const PARCEL_LIFE = 30_000

/** Publications are plain ones, which a cluster passes on to all its nodes. */
export class RedisBus implements Bus {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #nodes: RedisNodes
  readonly #subscriber: RedisSubscriber
  readonly #parcels: RedisParcels

  constructor(connection: RedisConnection, keys: RedisKeys, nodes: RedisNodes, subscriber: RedisSubscriber) {
    this.#connection = connection
    this.#keys = keys
    this.#nodes = nodes
    this.#subscriber = subscriber
    this.#parcels = new RedisParcels(connection)
  }

  async send(nodeId: string, message: Uint8Array): Promise<boolean> {
    this.#connection.assertOpen()
    if (message.length > MESSAGE_LIMIT) {
      const facts = `A message of ${message.length} bytes was to be sent to node ${nodeId}`
      throw new PersistError('INVALID_ARGUMENT', `${facts}; the limit is ${MESSAGE_LIMIT}.`)
    }
    const isParcel = message.length > INSIDE
    const name = isParcel ? randomBytes(12).toString('base64url') : ''
    const inside = isParcel ? Buffer.from(name) : message
    const text = Buffer.concat([Buffer.of(isParcel ? PARCEL : MESSAGE), inside])
    const keys = [this.#keys.node(nodeId), this.#keys.parcel(nodeId, name)]
    const args = [text, this.#keys.channel(nodeChannel(nodeId)), PARCEL_LIFE]
    const parcel = isParcel ? [bytesOf(message)] : []
    // Sent twice, it comes twice: that may happen to any message.
    const sent = await this.#connection.eval(SEND, keys, [...args, ...parcel], REPEATABLE)
    if (sent === 0) return false
    return sent === 1 || !(await this.#nodes.isDead(nodeId))
  }

  async receive(nodeId: string, onMessage: OnMessage): Promise<Subscription> {
    this.#connection.assertOpen()
    let open = true
    const deliver = (message: Uint8Array | undefined) => {
      if (open && !this.#connection.closing) onMessage(message)
    }
    const subscription = await this.#listen(nodeChannel(nodeId), (bytes) => {
      if (bytes === undefined) return deliver(undefined)
      if (bytes[0] === MESSAGE) return deliver(bytes.subarray(1))
      if (bytes[0] !== PARCEL) return
      const key = this.#keys.parcel(nodeId, bytes.toString('latin1', 1))
      void this.#parcels.fetch(key).then(deliver)
    })
    return {
      close() {
        open = false
        return subscription.close()
      },
    }
  }

  async publish(channel: string, text: string): Promise<number | undefined> {
    this.#connection.assertOpen()
    const heard = (await this.#connection.call(
      'publish',
      [this.#keys.channel(channel), text],
      READS,
    )) as number
    // A server of a cluster counts those connected to itself.
    return this.#nodes.counted ? heard : undefined
  }

  async subscribe(channel: string, onWake: OnWake): Promise<Subscription> {
    this.#connection.assertOpen()
    const toNode = channel.startsWith(NODE_CHANNEL)
    return this.#listen(channel, (bytes) => {
      if (toNode && (bytes?.[0] === MESSAGE || bytes?.[0] === PARCEL)) return
      onWake(bytes?.toString() || undefined)
    })
  }

  async #listen(channel: string, onBytes: (bytes: Buffer | undefined) => void): Promise<Subscription> {
    const name = this.#keys.channel(channel)
    const stop = await this.#subscriber.listen(name, onBytes)
    const nodeId = channel.startsWith(NODE_CHANNEL) ? channel.slice(NODE_CHANNEL.length) : undefined
    if (nodeId !== undefined) await this.#nodes.listens(nodeId, true)
    let open = true
    return {
      close: async () => {
        if (!open) return
        open = false
        // First take back the word, then fall silent: the other way round looks like death.
        const last = nodeId !== undefined && this.#subscriber.listeners(name) === 1
        if (last && !this.#connection.closing) await this.#nodes.listens(nodeId, false).catch(() => {})
        await stop()
      },
    }
  }
}

function bytesOf(message: Uint8Array): Buffer {
  return Buffer.from(message.buffer, message.byteOffset, message.byteLength)
}
