import { createHash } from 'node:crypto'
import { errorText, maskUrl, type PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { Subscription } from '../port.ts'
import type { PostgresDriver } from './postgres-driver.ts'
import { closed, timedOut, toPersistError } from './postgres-errors.ts'
import { ListeningConnection } from './postgres-listening-connection.ts'

export interface ListenerOptions {
  /** The driver's client, and what it connects with. */
  readonly load: () => Promise<{ Client: PostgresDriver['Client']; config: object }>
  readonly schema: string
  readonly masked: string
  readonly timeout: number
  readonly logger: Logger
  readonly keyOf: (nodeId: string) => string
  /** Writes into the node's row whether its lock is held, as seen by another connection. False: its lease is over. */
  readonly announce: (nodeId: string, held: boolean) => Promise<boolean>
}

/** Hears the payloads of its channel; undefined: some may have been missed. */
type OnPayload = (payload: string | undefined) => void

/** Retries come after 10 ms, then ever later up to this: a node without its lock must be back within the grace. */
const MAX_BACKOFF = 200
/** A connection that was cut without a word is found out this often. */
const HEARTBEAT = 5_000

/** PostgreSQL takes payloads below this many bytes. */
export const MAX_PAYLOAD = 8_000

/** Channel names have 63 bytes at the most and are shared by the whole database: schema and channel are hashed. */
export function channelName(schema: string, channel: string): string {
  return `mcp_${createHash('sha256').update(`${schema}\0${channel}`).digest('hex').slice(0, 40)}`
}

/**
 * The one connection that listens for all subscriptions of the store, and holds its nodes' locks. It is opened by the
 * first subscription; lost, it is opened again without end, and then everybody is told to look.
 *
 * There is one at the most: `#connection` while it is open, `#opening` while it is being opened, and whoever needs it
 * goes through `#open`, the retry after a loss as well as a subscription that comes before the retry.
 */
export class PostgresListener {
  /** Does a pooler answer where LISTEN needs a connection of its own? Undefined: nobody has subscribed yet. */
  pooled: boolean | undefined
  readonly #options: ListenerOptions
  readonly #channels = new Map<string, Set<OnPayload>>()
  readonly #nodes = new Map<string, 'free' | 'taking' | 'held'>()
  #connection: ListeningConnection | undefined
  #opening: Promise<ListeningConnection> | undefined
  /** Connections were lost since everybody was last told. */
  #missed = false
  #retry: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: ListenerOptions) {
    this.#options = options
  }

  async subscribe(channel: string, onPayload: OnPayload): Promise<Subscription> {
    const name = channelName(this.#options.schema, channel)
    const listeners = this.#channels.get(name) ?? new Set()
    // Each call is a subscription of its own, even with the same function.
    const listener: OnPayload = (payload) => onPayload(payload)
    this.#channels.set(name, listeners)
    listeners.add(listener)
    const close = async () => {
      if (!listeners.delete(listener) || listeners.size > 0) return
      if (this.#channels.get(name) === listeners) this.#channels.delete(name)
      await this.#connection?.run(`UNLISTEN ${name}`).catch(() => {})
    }
    try {
      await this.#listen(name)
    } catch (error) {
      await close()
      throw toPersistError(error, this.#options.masked)
    }
    return { close }
  }

  /** Takes the lock of a node, here and after each reconnection. Without a subscription there is no lock. */
  async hold(nodeId: string): Promise<void> {
    this.#nodes.set(nodeId, 'free')
    if (this.#connection) await this.#lock(nodeId, this.#connection)
  }

  letGo(nodeId: string): void {
    if (!this.#nodes.delete(nodeId)) return
    this.#connection?.unlock(this.#options.keyOf(nodeId)).catch(() => {})
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#channels.clear()
    clearTimeout(this.#retry)
    clearInterval(this.#heartbeat)
    await this.#opening?.catch(() => {})
    const connection = this.#connection
    this.#connection = undefined
    await connection?.end()
  }

  readonly #late = (): PersistError => timedOut(this.#options.masked, this.#options.timeout)

  async #listen(name: string): Promise<void> {
    const connection = this.#connection
    try {
      // Opening listens on every channel there is, this one too.
      await (connection ? connection.run(`LISTEN ${name}`) : this.#open())
    } catch (error) {
      if (connection === undefined || connection === this.#connection) throw error
      await this.#open()
    }
  }

  #open(): Promise<ListeningConnection> {
    if (this.#closed) return Promise.reject(closed())
    if (this.#connection) return Promise.resolve(this.#connection)
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async #connect(): Promise<ListeningConnection> {
    const { load, timeout } = this.#options
    const connection = await ListeningConnection.open({
      ...(await load()),
      timeout,
      late: this.#late,
      onNotification: (channel, payload) => {
        for (const onPayload of this.#channels.get(channel) ?? []) onPayload(payload)
      },
      onLost: (connection, error) => this.#lost(connection, error),
    })
    try {
      const asked = `SELECT pg_backend_pid() = ${connection.processId} AS direct`
      const [answer] = await connection.run<{ direct: boolean }>(asked)
      this.pooled = !answer!.direct
      // Channels that come meanwhile are met by this loop; those that come later find the connection.
      for (const name of this.#channels.keys()) await connection.run(`LISTEN ${name}`)
      if (this.#closed) throw closed()
      if (connection.ended) throw this.#late()
    } catch (error) {
      connection.destroy()
      throw error
    }
    this.#connection = connection
    clearTimeout(this.#retry)
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT)
    this.#heartbeat.unref()
    if (this.#missed) this.#tellAll()
    // It is open now. Nobody waits for the locks: lost before it has them it would be reopened only after them, by nobody.
    void this.#lockAll(connection)
    return connection
  }

  #tellAll(): void {
    this.#missed = false
    this.#options.logger.info({ backend: 'postgres' }, 'listening for wake-ups again')
    for (const listeners of this.#channels.values()) for (const onPayload of listeners) onPayload(undefined)
  }

  #lost(connection: ListeningConnection, error?: Error): void {
    if (connection !== this.#connection) return
    this.#connection = undefined
    this.#missed = true
    clearInterval(this.#heartbeat)
    for (const nodeId of this.#nodes.keys()) this.#nodes.set(nodeId, 'free')
    if (this.#closed) return
    const facts = { backend: 'postgres', error: error && maskUrl(errorText(error)) }
    this.#options.logger.warn(facts, 'the connection that listens for wake-ups was lost; opening another')
    this.#reopen(10)
  }

  #reopen(backoff: number): void {
    const again = () => this.#reopen(Math.min(MAX_BACKOFF, backoff * 2))
    this.#retry = setTimeout(
      () => this.#open().catch(() => (this.#closed ? undefined : again())),
      backoff * (0.5 + Math.random() * 0.75),
    )
    this.#retry.unref()
  }

  async #beat(): Promise<void> {
    const connection = this.#connection
    if (!connection) return
    // One that does not answer is destroyed for it, and so lost.
    await connection.run('SELECT 1').catch(() => {})
    await this.#lockAll(connection)
  }

  async #lockAll(connection: ListeningConnection): Promise<void> {
    for (const nodeId of this.#nodes.keys()) await this.#lock(nodeId, connection)
  }

  async #lock(nodeId: string, connection: ListeningConnection): Promise<void> {
    if (connection !== this.#connection || this.#nodes.get(nodeId) !== 'free') return
    this.#nodes.set(nodeId, 'taking')
    const { keyOf, announce, logger } = this.#options
    try {
      // On a pooler's connection the lock would outlive us, or end before us.
      const held = !this.pooled && (await connection.lock(keyOf(nodeId)))
      const registered = this.#nodes.has(nodeId) && (await announce(nodeId, held))
      if (connection !== this.#connection) return
      if (registered && this.#nodes.has(nodeId)) this.#nodes.set(nodeId, held ? 'held' : 'free')
      else {
        this.#nodes.delete(nodeId)
        await connection.unlock(keyOf(nodeId))
      }
    } catch (error) {
      if (connection !== this.#connection) return
      // Its row may still name the lock: until that is put right the node could pass for dead.
      const facts = { backend: 'postgres', nodeId, error: errorText(error) }
      logger.warn(facts, 'the lock of this node was not taken')
      if (this.#nodes.has(nodeId)) this.#nodes.set(nodeId, 'free')
      setTimeout(() => this.#beat(), MAX_BACKOFF).unref()
    }
  }
}
