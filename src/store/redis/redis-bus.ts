import { PersistError } from '../../errors.ts'
import { type Bus, MAILBOX_LIMIT, nodeChannel, type Subscription } from '../port.ts'
import type { RedisConnection } from './redis-connection.ts'
import type { RedisKeys } from './redis-keys.ts'
import type { RedisNodes } from './redis-nodes.ts'
import type { RedisSubscriber } from './redis-subscriber.ts'
import { COLLECT, POST } from './scripts/node.ts'

type OnWake = (text: string | undefined) => void

const NODE_CHANNEL = nodeChannel('')

/** Mailboxes are lists beside their nodes; wake-ups are plain publications, which a cluster passes on to all its nodes. */
export class RedisBus implements Bus {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #nodes: RedisNodes
  readonly #subscriber: RedisSubscriber
  readonly #assertOpen: () => void

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    nodes: RedisNodes,
    subscriber: RedisSubscriber,
    assertOpen: () => void,
  ) {
    this.#connection = connection
    this.#keys = keys
    this.#nodes = nodes
    this.#subscriber = subscriber
    this.#assertOpen = assertOpen
  }

  async post(nodeId: string, letter: Uint8Array): Promise<boolean> {
    this.#assertOpen()
    const bytes = Buffer.from(letter.buffer, letter.byteOffset, letter.byteLength)
    const args = [bytes, MAILBOX_LIMIT, this.#keys.channel(nodeChannel(nodeId))]
    const posted = await this.#connection.eval(POST, this.#keys.node(nodeId), args)
    if (posted === -2) {
      const facts = `The mailbox of node ${nodeId} holds ${MAILBOX_LIMIT} letters`
      throw new PersistError('OVERLOADED', `${facts}; it is full.`)
    }
    if (posted === -1) return false
    // Nobody heard it. If the node is found dead, the letter goes with its mailbox.
    return posted !== -3 || !(await this.#nodes.isDead(nodeId))
  }

  async collect(nodeId: string): Promise<readonly Uint8Array[]> {
    this.#assertOpen()
    return (await this.#connection.evalBuffer(COLLECT, this.#keys.node(nodeId), [1_000])) as Buffer[]
  }

  async publish(channel: string, text: string): Promise<number | undefined> {
    this.#assertOpen()
    const args = [this.#keys.channel(channel), text]
    const heard = (await this.#connection.call('publish', args, { repeatable: true })) as number
    // A server of a cluster counts those connected to itself.
    return this.#nodes.counted ? heard : undefined
  }

  async subscribe(channel: string, onWake: OnWake): Promise<Subscription> {
    this.#assertOpen()
    const name = this.#keys.channel(channel)
    const stop = await this.#subscriber.listen(name, onWake)
    const nodeId = channel.startsWith(NODE_CHANNEL) ? channel.slice(NODE_CHANNEL.length) : undefined
    if (nodeId !== undefined) await this.#nodes.listens(nodeId, true)
    let open = true
    return {
      close: async () => {
        if (!open) return
        open = false
        // First take back the word, then fall silent: the other way round looks like death.
        const last = nodeId !== undefined && this.#subscriber.listeners(name) === 1
        if (last) await this.#nodes.listens(nodeId, false).catch(() => {})
        await stop()
      },
    }
  }
}
