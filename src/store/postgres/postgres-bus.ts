import { GroupCommit, type Outcome } from '../common/group-commit.ts'
import type { Bus, Subscription } from '../port.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { channelName, MAX_PAYLOAD, type PostgresListener } from './postgres-listener.ts'
import type { PostgresMessages } from './postgres-messages.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { decodeText, encodeText, packTexts, unpacked } from './postgres-text.ts'

interface Text {
  readonly channel: string
  readonly text: string
}

export interface PostgresBusOptions {
  readonly connections: PostgresConnections
  readonly schema: PostgresSchema
  readonly listener: PostgresListener
  readonly messages: PostgresMessages
  readonly maxWaiting: number
  readonly assertOpen: () => void
  readonly opened: () => Promise<void>
}

/**
 * What is published at the same time travels in one statement. NOTIFY takes a lock of the whole database at commit, and
 * one for each statement costs nothing.
 */
export class PostgresBus implements Bus {
  readonly #options: PostgresBusOptions
  readonly #texts: GroupCommit<Text, undefined>

  constructor(options: PostgresBusOptions) {
    this.#options = options
    this.#texts = new GroupCommit((batch) => this.#publish(batch), { maxWaiting: options.maxWaiting })
  }

  async send(nodeId: string, message: Uint8Array): Promise<boolean> {
    this.#options.assertOpen()
    return this.#options.messages.send(nodeId, message)
  }

  async receive(nodeId: string, onMessage: (message: Uint8Array | undefined) => void) {
    this.#options.assertOpen()
    await this.#options.opened()
    return this.#options.messages.receive(nodeId, onMessage)
  }

  async publish(channel: string, text: string): Promise<undefined> {
    this.#options.assertOpen()
    return this.#texts.add({ channel, text })
  }

  async subscribe(channel: string, onWake: (text: string | undefined) => void): Promise<Subscription> {
    this.#options.assertOpen()
    await this.#options.opened()
    return this.#options.listener.subscribe(channel, (payload = '') =>
      onWake(payload === '' ? undefined : decodeText(payload.slice(1))),
    )
  }

  async settled(): Promise<void> {
    await Promise.all([this.#options.messages.settled(), this.#texts.settled()])
  }

  async #publish(batch: readonly Text[]): Promise<readonly Outcome<undefined>[]> {
    const { opened, schema, connections } = this.#options
    await opened()
    const channels = packTexts(batch.map(({ channel }) => channelName(schema.name, channel)))
    const payloads = packTexts(batch.map(({ text }) => wakePayload(text)))
    const text = `SELECT pg_notify(channel, payload), set_config('synchronous_commit', 'off', true)
FROM unnest(${unpacked(1)}, ${unpacked(2)}) AS wake (channel, payload)`
    await connections.query({ text, values: [channels, payloads] }, { repeatable: true, urgent: true })
    return batch.map(() => ({ ok: undefined }))
  }
}

/** Of a text that is too long only the wake-up goes out. Empty: no text. */
function wakePayload(text: string): string {
  const payload = `=${encodeText(text)}`
  return Buffer.byteLength(payload) < MAX_PAYLOAD ? payload : ''
}
