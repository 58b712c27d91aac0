import { createHash } from 'node:crypto'
import { withTimeout } from '../../clock.ts'
import { errorText, maskUrl, type PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { Subscription } from '../port.ts'
import type { PostgresClient } from './postgres-driver.ts'
import { timedOut, toPersistError } from './postgres-errors.ts'
import { decodeText, encodeText } from './postgres-text.ts'

export interface ListenerOptions {
  readonly connect: () => Promise<PostgresClient>
  readonly schema: string
  readonly masked: string
  readonly timeout: number
  readonly logger: Logger
  readonly keyOf: (nodeId: string) => string
  /** Writes into the node's row whether its lock is held, as seen by another connection. */
  readonly announce: (nodeId: string, held: boolean) => Promise<void>
}

type OnWake = (text: string | undefined) => void

/** Retries come after 10 ms, then ever later up to this: a node without its lock must be back within the grace. */
const MAX_BACKOFF = 200
/** A connection that was cut without a word is found out this often. */
const HEARTBEAT = 5_000

/** Channel names have 63 bytes at the most and are shared by the whole database: schema and channel are hashed. */
export function channelName(schema: string, channel: string): string {
  return `mcp_${createHash('sha256').update(`${schema}\0${channel}`).digest('hex').slice(0, 40)}`
}

/** PostgreSQL takes payloads below 8,000 bytes; of a longer text only the wake-up goes out. Empty: no text. */
export function wakePayload(text: string): string {
  const payload = `=${encodeText(text)}`
  return Buffer.byteLength(payload) < 8000 ? payload : ''
}

/**
 * The one connection that listens for all subscriptions of the store, and holds its nodes' locks. It is opened by the
 * first subscription; lost, it is opened again without end, and then everybody is told to look.
 */
export class PostgresListener {
  /** Does a pooler answer where LISTEN needs a connection of its own? Undefined: nobody has subscribed yet. */
  pooled: boolean | undefined
  readonly #options: ListenerOptions
  readonly #channels = new Map<string, Set<OnWake>>()
  readonly #nodes = new Map<string, 'held' | 'free'>()
  #client: PostgresClient | undefined
  #opening: Promise<void> | undefined
  /** One statement after the other: pg has no queue of its own to rely on. */
  #last: Promise<unknown> = Promise.resolve()
  #retry: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: ListenerOptions) {
    this.#options = options
  }

  async subscribe(channel: string, onWake: OnWake): Promise<Subscription> {
    const name = channelName(this.#options.schema, channel)
    const listeners = this.#channels.get(name) ?? new Set()
    // Each call is a subscription of its own, even with the same function.
    const listener: OnWake = (text) => onWake(text)
    this.#channels.set(name, listeners)
    listeners.add(listener)
    const close = async () => {
      if (!listeners.delete(listener) || listeners.size > 0) return
      if (this.#channels.get(name) === listeners) this.#channels.delete(name)
      if (this.#client) await this.#run(`UNLISTEN ${name}`).catch(() => {})
    }
    try {
      await (this.#client ? this.#run(`LISTEN ${name}`) : this.#open())
    } catch (error) {
      await close()
      throw error
    }
    return { close }
  }

  /** Takes the lock of a node, here and after each reconnection. Without a subscription there is no lock. */
  async hold(nodeId: string): Promise<void> {
    this.#nodes.set(nodeId, 'free')
    if (this.#client) await this.#lock(nodeId)
  }

  letGo(nodeId: string): void {
    this.#nodes.delete(nodeId)
    if (this.#client) this.#run(`SELECT pg_advisory_unlock(${this.#options.keyOf(nodeId)})`).catch(() => {})
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#channels.clear()
    clearTimeout(this.#retry)
    clearInterval(this.#heartbeat)
    await this.#opening?.catch(() => {})
    const client = this.#client
    this.#client = undefined
    if (client) await withTimeout(client.end(), 1000, this.#late).catch(() => {})
  }

  readonly #late = (): PersistError => timedOut(this.#options.masked, this.#options.timeout)

  #open(): Promise<void> {
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async #connect(): Promise<void> {
    const { connect, masked, timeout } = this.#options
    const connecting = connect()
    try {
      const client = await withTimeout(connecting, timeout, this.#late)
      client.on('notification', ({ channel, payload = '' }) => {
        const text = payload === '' ? undefined : decodeText(payload.slice(1))
        for (const onWake of this.#channels.get(channel) ?? []) onWake(text)
      })
      client.on('error', (error) => this.#lost(client, error))
      client.on('end', () => this.#lost(client))
      const pid = Number(client.processID ?? 0)
      const { rows } = await this.#run(`SELECT pg_backend_pid() = ${pid} AS direct`, client)
      this.pooled = !(rows[0] as { direct: boolean }).direct
      // Channels that come meanwhile are met by this loop; those that come later find the client.
      for (const name of this.#channels.keys()) await this.#run(`LISTEN ${name}`, client)
      if (this.#closed) throw this.#late()
      this.#client = client
    } catch (error) {
      connecting.then(
        (client) => this.#drop(client),
        () => {},
      )
      throw toPersistError(error, masked)
    }
    for (const nodeId of this.#nodes.keys()) await this.#lock(nodeId)
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT)
    this.#heartbeat.unref()
  }

  #drop(client: PostgresClient | undefined): void {
    if (client === this.#client) this.#client = undefined
    client?.end().catch(() => {})
  }

  #lost(client: PostgresClient, error?: Error): void {
    if (client !== this.#client) return
    this.#drop(client)
    clearInterval(this.#heartbeat)
    for (const nodeId of this.#nodes.keys()) this.#nodes.set(nodeId, 'free')
    if (this.#closed) return
    const facts = { backend: 'postgres', error: error && maskUrl(errorText(error)) }
    this.#options.logger.warn(facts, 'the connection that listens for wake-ups was lost; opening another')
    this.#reopen(10)
  }

  #reopen(backoff: number): void {
    this.#retry = setTimeout(
      async () => {
        try {
          await this.#open()
          this.#options.logger.info({ backend: 'postgres' }, 'listening for wake-ups again')
          for (const listeners of this.#channels.values()) for (const onWake of listeners) onWake(undefined)
        } catch {
          if (!this.#closed) this.#reopen(Math.min(MAX_BACKOFF, backoff * 2))
        }
      },
      backoff * (0.5 + Math.random() * 0.75),
    )
    this.#retry.unref()
  }

  async #beat(): Promise<void> {
    const client = this.#client
    if (!client) return
    try {
      await this.#run('SELECT 1')
      for (const [nodeId, state] of this.#nodes) if (state === 'free') await this.#lock(nodeId)
    } catch (error) {
      this.#lost(client, error as Error)
    }
  }

  async #lock(nodeId: string): Promise<void> {
    const { keyOf, announce, logger } = this.#options
    try {
      // On a pooler's connection the lock would outlive us, or end before us.
      const held = !this.pooled && (await this.#tryLock(keyOf(nodeId)))
      if (!this.#nodes.has(nodeId)) return
      await announce(nodeId, held)
      this.#nodes.set(nodeId, held ? 'held' : 'free')
    } catch (error) {
      // Its row may still name the lock: until that is put right the node could pass for dead.
      logger.warn(
        { backend: 'postgres', nodeId, error: errorText(error) },
        'the lock of this node was not taken',
      )
      setTimeout(() => this.#beat(), MAX_BACKOFF).unref()
    }
  }

  async #tryLock(key: string): Promise<boolean> {
    const { rows } = await this.#run(`SELECT pg_try_advisory_lock(${key}) AS held`)
    return (rows[0] as { held: boolean }).held
  }

  #run(text: string, client = this.#client): Promise<{ rows: unknown[] }> {
    if (!client) return Promise.reject(this.#late())
    const running = this.#last.then(() =>
      withTimeout(client.query({ text }), this.#options.timeout, this.#late),
    )
    this.#last = running.catch(() => {})
    return running
  }
}
