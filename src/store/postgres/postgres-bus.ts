import { PersistError } from '../../errors.ts'
import { type Bus, MAILBOX_LIMIT, nodeChannel, type Subscription } from '../port.ts'
import { GroupCommit, type Outcome } from '../shared/group-commit.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { channelName, MAX_PAYLOAD, type PostgresListener } from './postgres-listener.ts'
import type { PostgresMessages } from './postgres-messages.ts'
import { isAlive } from './postgres-nodes.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { sql } from './postgres-sql.ts'
import { decodeText, encodeText, packScalars, packTexts, unpacked } from './postgres-text.ts'

interface Letter {
  readonly nodeId: string
  readonly body: Uint8Array
}

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
 * Letters are rows; what is posted at the same time travels in one statement, which also wakes the nodes. NOTIFY
 * takes a lock of the whole database at commit: one for each group costs nothing, one for each letter half the speed.
 */
export class PostgresBus implements Bus {
  readonly #options: PostgresBusOptions
  readonly #letters: GroupCommit<Letter, boolean>
  readonly #texts: GroupCommit<Text, undefined>

  constructor(options: PostgresBusOptions) {
    this.#options = options
    const { maxWaiting } = options
    this.#letters = new GroupCommit((batch) => this.#post(batch), {
      maxWaiting,
      sizeOf: ({ body }) => body.byteLength,
    })
    this.#texts = new GroupCommit((batch) => this.#publish(batch), { maxWaiting })
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

  async post(nodeId: string, letter: Uint8Array): Promise<boolean> {
    this.#options.assertOpen()
    return this.#letters.add({ nodeId, body: letter })
  }

  async collect(nodeId: string): Promise<readonly Uint8Array[]> {
    const { opened, schema, assertOpen } = this.#options
    assertOpen()
    await opened()
    const letters = schema.table('mcp_letters')
    // Who comes second waits, and finds what the first left behind. Were it to skip the locked rows, it could return
    // later letters before the first returns its earlier ones.
    const rows = await schema.rows<{ letter_id: string; body: Buffer }>(
      sql`
      WITH first AS MATERIALIZED (
        SELECT letter_id FROM ${letters}
        WHERE node_id = ${encodeText(nodeId)} AND EXISTS (
          SELECT 1 FROM ${schema.table('mcp_nodes')} AS node
          WHERE node.id = ${encodeText(nodeId)} AND node.lease_until > clock_timestamp())
        ORDER BY letter_id LIMIT 1000 FOR UPDATE
      )
      DELETE FROM ${letters} AS letter USING first
      WHERE letter.node_id = ${encodeText(nodeId)} AND letter.letter_id = first.letter_id
      RETURNING letter.letter_id, letter.body`,
      { urgent: true },
    )
    return rows.sort((a, b) => Number(a.letter_id) - Number(b.letter_id)).map(({ body }) => body)
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
    const { messages } = this.#options
    await Promise.all([messages.settled(), this.#letters.settled(), this.#texts.settled()])
  }

  async #post(batch: readonly Letter[]): Promise<readonly Outcome<boolean>[]> {
    const { opened, schema, connections } = this.#options
    await opened()
    const nodes = new Map<string, number>()
    const ranks = batch.map(({ nodeId }) => {
      const rank = (nodes.get(nodeId) ?? 0) + 1
      nodes.set(nodeId, rank)
      return rank
    })
    const ids = [...nodes.keys()]
    const text = `
WITH box AS MATERIALIZED (
  SELECT asked.id, asked.channel, ${MAILBOX_LIMIT} - (
    SELECT count(*) FROM (
      SELECT FROM ${schema.quoted('mcp_letters')} WHERE node_id = asked.id LIMIT ${MAILBOX_LIMIT}
    ) AS letter) AS room
  FROM unnest(${unpacked(1)}, ${unpacked(2)}) AS asked (id, channel)
  JOIN ${schema.quoted('mcp_nodes')} AS node USING (id) WHERE ${isAlive('node')}
), kept AS (
  INSERT INTO ${schema.quoted('mcp_letters')} (node_id, body)
  SELECT box.id, decode(letter.body, 'base64')
  FROM unnest(${unpacked(3)}, $4::int[], ${unpacked(5)}) WITH ORDINALITY AS letter (node_id, rank, body, place)
  JOIN box ON box.id = letter.node_id AND letter.rank <= box.room ORDER BY letter.place
)
SELECT id, room, pg_notify(channel, '') FROM box`
    const values = [
      packTexts(ids),
      packTexts(ids.map((id) => channelName(schema.name, nodeChannel(id)))),
      packTexts(batch.map(({ nodeId }) => nodeId)),
      packScalars(ranks),
      packTexts(batch.map(({ body }) => asBuffer(body).toString('base64'))),
    ]
    const rows = await connections.query<{ id: string; room: string }>({ text, values }, { urgent: true })
    const rooms = new Map(rows.map(({ id, room }) => [id, Number(room)]))
    return batch.map(({ nodeId }, i) => {
      const room = rooms.get(encodeText(nodeId))
      if (room === undefined) return { ok: false }
      return ranks[i]! <= room ? { ok: true } : { error: full(nodeId) }
    })
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

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function full(nodeId: string): PersistError {
  return new PersistError(
    'OVERLOADED',
    `The mailbox of node ${nodeId} holds ${MAILBOX_LIMIT} letters; it is full.`,
  )
}
