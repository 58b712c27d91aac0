import type { Clock } from '../../clock.ts'
import { PersistError } from '../../errors.ts'
import { type Bus, MESSAGE_LIMIT, type Subscription } from '../port.ts'
import { Budget } from './sqlite-budget.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import type { SqliteNodes } from './sqlite-nodes.ts'
import { SqlitePeers } from './sqlite-peers.ts'
import type { SqliteSockets } from './sqlite-sockets.ts'
import { messageChannel, type SqliteWakeUps } from './sqlite-wake-ups.ts'

/** How long a published text is kept for those who are slow to look, in ms. */
const KEPT = 10_000
/** Bytes of messages that this process has lying in the file at the most. */
const MAX_CARRIED = 4 * MESSAGE_LIMIT

const PUBLISH = 'INSERT INTO mcp_wakeups (channel, text, created_at) VALUES (?,?,?)'
const FORGET = `DELETE FROM mcp_wakeups WHERE id IN (
  SELECT id FROM (SELECT id, created_at FROM mcp_wakeups ORDER BY id LIMIT 512) WHERE created_at < ?)`
// A parcel has the id of its wake-up, and those go from the lowest on.
const FORGET_PARCELS = `DELETE FROM mcp_parcels
  WHERE id < coalesce((SELECT min(id) FROM mcp_wakeups), (SELECT max(id) + 1 FROM mcp_parcels))`

type OnMessage = (message: Uint8Array | undefined) => void

/**
 * Messages go over the unix socket of the node they are for. Where that cannot be reached, because its process is in a
 * container, has another user or another folder for such things, the file carries them: that takes a commit and a look.
 * Which way it is says nothing about the node: its lease and its locked file do.
 */
export class SqliteBus implements Bus {
  readonly #db: SqliteDatabase
  readonly #clock: Clock
  readonly #nodes: SqliteNodes
  readonly #wakeUps: SqliteWakeUps
  readonly #sockets: SqliteSockets
  readonly #peers = new SqlitePeers()
  readonly #receivers = new Map<string, Set<OnMessage>>()
  readonly #carried: Budget

  constructor(
    db: SqliteDatabase,
    clock: Clock,
    nodes: SqliteNodes,
    wakeUps: SqliteWakeUps,
    sockets: SqliteSockets,
  ) {
    this.#db = db
    this.#clock = clock
    this.#nodes = nodes
    this.#wakeUps = wakeUps
    this.#sockets = sockets
    this.#carried = new Budget(MAX_CARRIED, KEPT, clock)
  }

  async send(nodeId: string, message: Uint8Array): Promise<boolean> {
    this.#db.assertOpen()
    if (message.length > MESSAGE_LIMIT) {
      const facts = `A message of ${message.length} bytes is longer than the limit of ${MESSAGE_LIMIT}`
      throw new PersistError('INVALID_ARGUMENT', `${facts}; send less at once.`)
    }
    // While it hears us its end is heard too, and the file need not be asked.
    const isNear = this.#receivers.has(nodeId) || this.#peers.isConnected(nodeId)
    const node = await (isNear ? this.#nodes.trust(nodeId) : this.#nodes.look(nodeId))
    if (!node) {
      this.#peers.forget(nodeId)
      return false
    }
    if (this.#receivers.has(nodeId)) {
      this.#deliver(nodeId, message)
      return true
    }
    return (await this.#peers.say(node, message)) || this.#carry(nodeId, message)
  }

  async receive(nodeId: string, onMessage: OnMessage): Promise<Subscription> {
    const carried = await this.#wakeUps.subscribe<Uint8Array>(messageChannel(nodeId), onMessage)
    const receiver: OnMessage = (message) => onMessage(message)
    const receivers = this.#receivers.get(nodeId) ?? new Set()
    this.#receivers.set(nodeId, receivers.add(receiver))
    const subscription = {
      close: async () => {
        await carried.close()
        receivers.delete(receiver)
        if (receivers.size > 0 || this.#receivers.get(nodeId) !== receivers) return
        this.#receivers.delete(nodeId)
        this.#sockets.stop(nodeId)
      },
    }
    if (receivers.size > 1 || this.#db.inMemory) return subscription
    await this.#sockets.listen(nodeId, (message) => this.#deliver(nodeId, message))
    try {
      await this.#nodes.heardOn(nodeId, this.#sockets.pathOf(nodeId))
    } catch (error) {
      await subscription.close()
      throw error
    }
    return subscription
  }

  async publish(channel: string, text: string): Promise<undefined> {
    await this.#db.write((sql) => this.#publish(sql, channel, text))
    this.#wakeUps.announce()
  }

  subscribe(channel: string, onWake: (text: string | undefined) => void): Promise<Subscription> {
    return this.#wakeUps.subscribe(channel, onWake)
  }

  sweep(sql: Sql): void {
    sql(FORGET).run(this.#clock.now() - KEPT)
    sql(FORGET_PARCELS).run()
  }

  async close(): Promise<void> {
    await this.#peers.close()
    this.#sockets.close()
    this.#receivers.clear()
  }

  // A receiver never runs inside the call that told it, and what it throws is its own.
  #deliver(nodeId: string, message: Uint8Array | undefined): void {
    const receivers = this.#receivers.get(nodeId)
    for (const receiver of receivers ?? []) {
      queueMicrotask(() => {
        if (receivers!.has(receiver)) receiver(message)
      })
    }
  }

  async #carry(nodeId: string, message: Uint8Array): Promise<boolean> {
    // So much lies in the file that more would only make it grow. Whoever waits for an answer says it again.
    if (!this.#carried.spend(message.length)) return true
    const sent = await this.#db.write((sql) => {
      if (!this.#nodes.alive(sql, nodeId)) return false
      const id = this.#publish(sql, messageChannel(nodeId), null)
      sql('INSERT INTO mcp_parcels (id, body) VALUES (?,?)').run(id, message)
      return true
    }, message.length)
    this.#wakeUps.announce()
    return sent
  }

  // Each carries a little of the sweep, so that the table stays small without one.
  #publish(sql: Sql, channel: string, text: string | null): number {
    const id = Number(sql(PUBLISH).run(channel, text, this.#clock.now()).lastInsertRowid)
    if (id % 128 === 0) this.sweep(sql)
    return id
  }
}
