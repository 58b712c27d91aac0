import { PersistError } from '../../errors.ts'
import { type Bus, MAILBOX_LIMIT, nodeChannel, type Subscription } from '../port.ts'
import { GroupCommit, type Outcome } from '../shared/group-commit.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { sql } from './postgres-kysely.ts'
import { channelName, type PostgresListener, wakePayload } from './postgres-listener.ts'
import { isAlive } from './postgres-nodes.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { encodeText, packScalars, packTexts, unpacked } from './postgres-text.ts'

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
    this.#letters = new GroupCommit((batch) => this.#post(batch))
    this.#texts = new GroupCommit((batch) => this.#publish(batch))
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
    const rows = await schema.raw<{ letter_id: string; body: Buffer }>(sql`
      WITH first AS MATERIALIZED (
        SELECT letter_id FROM ${letters}
        WHERE node_id = ${encodeText(nodeId)} AND EXISTS (
          SELECT 1 FROM ${schema.table('mcp_nodes')} AS node
          WHERE node.id = ${encodeText(nodeId)} AND node.lease_until > clock_timestamp())
        ORDER BY letter_id LIMIT 1000 FOR UPDATE
      )
      DELETE FROM ${letters} AS letter USING first
      WHERE letter.node_id = ${encodeText(nodeId)} AND letter.letter_id = first.letter_id
      RETURNING letter.letter_id, letter.body`)
    return rows.sort((a, b) => Number(a.letter_id) - Number(b.letter_id)).map(({ body }) => body)
  }

  async publish(channel: string, text: string): Promise<undefined> {
    this.#options.assertOpen()
    return this.#texts.add({ channel, text })
  }

  async subscribe(channel: string, onWake: (text: string | undefined) => void): Promise<Subscription> {
    this.#options.assertOpen()
    await this.#options.opened()
    return this.#options.listener.subscribe(channel, onWake)
  }

  async settled(): Promise<void> {
    await Promise.all([this.#letters.settled(), this.#texts.settled()])
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
    const { sql: alive } = isAlive('node').compile(schema.db)
    const text = `
WITH box AS MATERIALIZED (
  SELECT asked.id, asked.channel, ${MAILBOX_LIMIT} - (
    SELECT count(*) FROM (
      SELECT FROM ${schema.quoted('mcp_letters')} WHERE node_id = asked.id LIMIT ${MAILBOX_LIMIT}
    ) AS letter) AS room
  FROM unnest(${unpacked(1)}, ${unpacked(2)}) AS asked (id, channel)
  JOIN ${schema.quoted('mcp_nodes')} AS node USING (id) WHERE ${alive}
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
    const rows = await connections.query<{ id: string; room: string }>({ text, values, name: 'mcp_post' })
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
    const text = `SELECT pg_notify(channel, payload) FROM unnest(${unpacked(1)}, ${unpacked(2)}) AS wake (channel, payload)`
    await connections.query({ text, values: [channels, payloads], name: 'mcp_publish' }, { repeatable: true })
    return batch.map(() => ({ ok: undefined }))
  }
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
