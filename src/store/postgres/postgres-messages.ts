import { randomUUID } from 'node:crypto'
import { PersistError } from '../../errors.ts'
import { GroupCommit, type Outcome } from '../common/group-commit.ts'
import { MESSAGE_LIMIT, type Subscription } from '../port.ts'
import type { PostgresConnections } from './postgres-connections.ts'
import { channelName, type PostgresListener } from './postgres-listener.ts'
import { isAlive, type PostgresNodes } from './postgres-nodes.ts'
import type { PostgresSchema } from './postgres-schema.ts'
import { packScalars, packTexts, unpacked } from './postgres-text.ts'

export interface PostgresMessagesOptions {
  readonly connections: PostgresConnections
  readonly schema: PostgresSchema
  readonly listener: PostgresListener
  readonly nodes: PostgresNodes
  readonly maxWaiting: number
  /** Resolves when the tables of nodes and parcels are known to be there. */
  readonly opened: () => Promise<void>
}

interface Message {
  readonly nodeId: string
  readonly body: Uint8Array
}

/** How the node fares that it was for. `silent`: its lease runs, and its lock seems to be free. */
type Sent = 'gone' | 'silent' | 'alive'

interface Parcel {
  readonly id: string
  readonly size: number
}

type OnMessage = (message: Uint8Array | undefined) => void

/** Bytes of a message that travels inside its notification: as base64, behind `=number:`, it stays below 8,000. */
const INLINE = 5_970
/** A parcel is fetched as soon as its notification is heard. */
const PARCEL_LIFE = "interval '1 minute'"

/**
 * Messages between nodes. What is sent at the same time travels in one statement, which asks first who is there: NOTIFY
 * takes a lock of the whole database at commit, and one for each statement costs nothing. The commit does not wait for
 * the disk, as nothing here outlives the server anyway.
 *
 * A payload is `=number:base64`, or `@id.size` of a parcel that holds the message. The number makes equal messages
 * differ, of which one transaction would send only the first.
 */
export class PostgresMessages {
  readonly #options: PostgresMessagesOptions
  readonly #outgoing: GroupCommit<Message, Sent>
  readonly #incoming: GroupCommit<Parcel, Uint8Array | undefined>
  /** Parcels on their way, so that two receivers of one node fetch theirs once. */
  readonly #fetching = new Map<string, Promise<Uint8Array | undefined>>()
  #sent = 0

  constructor(options: PostgresMessagesOptions) {
    const { maxWaiting } = options
    this.#options = options
    this.#outgoing = new GroupCommit((batch) => this.#send(batch), {
      maxWaiting,
      sizeOf: ({ body }) => body.byteLength,
    })
    this.#incoming = new GroupCommit((batch) => this.#fetch(batch), {
      maxWaiting,
      sizeOf: ({ size }) => size,
    })
  }

  async send(nodeId: string, body: Uint8Array): Promise<boolean> {
    if (body.byteLength > MESSAGE_LIMIT) {
      const facts = `A message of ${body.byteLength} bytes was to be sent to node ${nodeId}`
      throw new PersistError('INVALID_ARGUMENT', `${facts}; the limit is ${MESSAGE_LIMIT}.`)
    }
    const sent = await this.#outgoing.add({ nodeId, body })
    return sent === 'alive' || (sent === 'silent' && !(await this.#options.nodes.isDead(nodeId)))
  }

  async receive(nodeId: string, onMessage: OnMessage): Promise<Subscription> {
    let open = true
    const tell: OnMessage = (message) => {
      if (open) onMessage(message)
    }
    const subscription = await this.#options.listener.subscribe(inbox(nodeId), (payload) => {
      if (payload?.startsWith('=')) tell(Buffer.from(payload.slice(payload.indexOf(':') + 1), 'base64'))
      // What cannot be fetched, or is no longer there, was missed.
      else if (payload?.startsWith('@')) this.#take(payload).then(tell, () => tell(undefined))
      else tell(undefined)
    })
    const close = async () => {
      open = false
      await subscription.close()
    }
    return { close }
  }

  async settled(): Promise<void> {
    await Promise.all([this.#outgoing.settled(), this.#incoming.settled()])
  }

  async #send(batch: readonly Message[]): Promise<readonly Outcome<Sent>[]> {
    const { opened, schema, connections } = this.#options
    await opened()
    const nodes = new Map<string, number>()
    const places = batch.map(({ nodeId }) => {
      const place = nodes.get(nodeId) ?? nodes.size + 1
      nodes.set(nodeId, place)
      return place
    })
    const parcels: { id: string; place: number; body: Uint8Array }[] = []
    const payloads = batch.map(({ body }, i) => {
      if (body.byteLength <= INLINE) return `=${(this.#sent++).toString(36)}:${base64(body)}`
      const id = randomUUID()
      parcels.push({ id, place: places[i]!, body })
      return `@${id}.${body.byteLength}`
    })
    const ids = [...nodes.keys()]
    const values: unknown[] = [
      packTexts(ids),
      packTexts(ids.map((id) => channelName(schema.name, inbox(id)))),
      packScalars(places),
      packTexts(payloads),
    ]
    if (parcels.length > 0) {
      values.push(
        Buffer.concat(parcels.map(({ body }) => body)),
        packTexts(parcels.map(({ id }) => id)),
        packScalars(parcels.map(({ body }) => body.byteLength)),
        packScalars(parcels.map(({ place }) => place)),
      )
    }
    const text = `
WITH registered AS MATERIALIZED (
  SELECT place, channel, ${isAlive('node')} AS alive
  FROM unnest(${unpacked(1)}, ${unpacked(2)}) WITH ORDINALITY AS asked (id, channel, place)
  JOIN ${schema.quoted('mcp_nodes')} AS node USING (id) WHERE lease_until > clock_timestamp()
)${parcels.length > 0 ? kept(schema) : ''}
SELECT place, alive, pg_notify(channel, payload), set_config('synchronous_commit', 'off', true)
FROM registered JOIN unnest($3::bigint[], ${unpacked(4)}) AS message (place, payload) USING (place)`
    const rows = await connections.query<{ place: string | number; alive: boolean }>(
      { text, values },
      { repeatable: true, urgent: true },
    )
    const alive = new Map(rows.map((row) => [Number(row.place), row.alive]))
    return places.map((place) => ({ ok: fares(alive.get(place)) }))
  }

  #take(payload: string): Promise<Uint8Array | undefined> {
    const dot = payload.indexOf('.')
    const id = payload.slice(1, dot)
    let fetching = this.#fetching.get(id)
    if (!fetching) {
      fetching = this.#incoming
        .add({ id, size: Number(payload.slice(dot + 1)) })
        .finally(() => this.#fetching.delete(id))
      this.#fetching.set(id, fetching)
    }
    return fetching
  }

  async #fetch(batch: readonly Parcel[]): Promise<readonly Outcome<Uint8Array | undefined>[]> {
    const { schema, connections } = this.#options
    const text = `
DELETE FROM ${schema.quoted('mcp_parcels')} WHERE parcel_id = ANY (${unpacked(1)}::uuid[])
RETURNING parcel_id, body, set_config('synchronous_commit', 'off', true)`
    const rows = await connections.query<{ parcel_id: string; body: Buffer }>(
      { text, values: [packTexts(batch.map(({ id }) => id))] },
      { urgent: true },
    )
    const bodies = new Map(rows.map(({ parcel_id, body }) => [parcel_id, body]))
    return batch.map(({ id }) => ({ ok: bodies.get(id) }))
  }
}

/** All parcels are one parameter, which travels as it is: an array of them would double. */
const kept = (schema: PostgresSchema) => `, kept AS (
  INSERT INTO ${schema.quoted('mcp_parcels')} (parcel_id, body, expires_at)
  SELECT id::uuid, substring($5::bytea FROM (till - size + 1)::int FOR size), now() + ${PARCEL_LIFE}
  FROM (
    SELECT id, size, place, sum(size) OVER (ORDER BY rank) AS till
    FROM unnest(${unpacked(6)}, $7::int[], $8::bigint[]) WITH ORDINALITY AS parcel (id, size, place, rank)
  ) AS parcel JOIN registered USING (place)
)`

/** Undefined: it is not registered, or its lease is over. */
function fares(alive: boolean | undefined): Sent {
  if (alive === undefined) return 'gone'
  return alive ? 'alive' : 'silent'
}

function inbox(nodeId: string): string {
  return `inbox:${nodeId}`
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}
