import { monotonicNow, withTimeout } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { RedisClient } from './redis-client.ts'
import type { RedisConnection } from './redis-connection.ts'
import { backoff, disconnect } from './redis-driver.ts'
import { unavailable } from './redis-errors.ts'

/** Without bytes: something may have been missed. */
type OnBytes = (bytes: Buffer | undefined) => void

/** How often the connection is asked whether it still stands, in ms: a cut that nobody was told of looks like peace. */
const HEARTBEAT = 5_000

/**
 * The one connection on which everything is heard, made at the first subscription. When it was lost, it is made again
 * (in a cluster: to any master), subscribes to everything anew, and tells every listener to look at everything
 * once, because what was published meanwhile went unheard.
 */
export class RedisSubscriber {
  readonly #connection: RedisConnection
  readonly #timeout: number
  readonly #listeners = new Map<string, Set<OnBytes>>()
  /** The channels that Redis has confirmed, of the connection that stands. */
  readonly #confirmed = new Set<string>()
  /** The channels of which something may have been missed, and whose listeners do not know it yet. */
  readonly #missed = new Set<string>()
  #client: RedisClient | undefined
  #connecting: Promise<RedisClient> | undefined
  #attempt = 0
  #retry: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #closed = false

  constructor(connection: RedisConnection, { timeout }: { timeout: number }) {
    this.#connection = connection
    this.#timeout = timeout
    // Whoever has reached Redis again hears at once: others take silence for death soon (see SETTLED in redis-nodes.ts).
    connection.onReady(() => {
      if (this.#retry) this.#tryAgain()
    })
  }

  /** Resolves once Redis has confirmed it; the result ends it. */
  async listen(channel: string, onBytes: OnBytes): Promise<() => Promise<void>> {
    const listeners = this.#listeners.get(channel) ?? new Set()
    this.#listeners.set(channel, listeners)
    // A function of its own: the same one may listen twice.
    const listener: OnBytes = (bytes) => onBytes(bytes)
    listeners.add(listener)
    try {
      const client = await this.#connect()
      await this.#within(client.call('subscribe', channel))
      if (client === this.#client && this.#listeners.has(channel)) this.#confirmed.add(channel)
    } catch (error) {
      this.#forget(channel, listener)
      throw unavailable(this.#connection.where, `subscribing failed (${errorText(error)})`)
    }
    return async () => {
      const client = this.#client
      if (!this.#forget(channel, listener) || !client || this.#closed) return
      // If this fails the connection is lost, and the next one does not subscribe to it any more.
      await this.#within(client.call('unsubscribe', channel)).catch(() => {})
    }
  }

  /** Has Redis confirmed that we are subscribed to it? */
  hears(channel: string): boolean {
    return this.#confirmed.has(channel)
  }

  /** How many listen to the channel here. */
  listeners(channel: string): number {
    return this.#listeners.get(channel)?.size ?? 0
  }

  /** A channel we hear, other than `but`. */
  anyChannel(but: string | undefined): string | undefined {
    for (const channel of this.#confirmed) if (channel !== but) return channel
    return undefined
  }

  /** Resolves when its connection is closed. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    clearInterval(this.#heartbeat)
    this.#listeners.clear()
    this.#confirmed.clear()
    // One that is just being made finds out that it comes too late.
    const client = this.#client ?? (await this.#connecting?.catch(() => undefined))
    if (client) await disconnect(client)
  }

  #forget(channel: string, listener: OnBytes): boolean {
    const listeners = this.#listeners.get(channel)
    listeners?.delete(listener)
    if (listeners?.size !== 0) return false
    this.#confirmed.delete(channel)
    this.#missed.delete(channel)
    return this.#listeners.delete(channel)
  }

  #connect(): Promise<RedisClient> {
    this.#connecting ??= this.#open().catch((error) => {
      this.#connecting = undefined
      throw error
    })
    return this.#connecting
  }

  async #open(): Promise<RedisClient> {
    const commands = await this.#connection.online()
    const masters = commands.nodes?.('master')
    const base = masters ? masters[Math.floor(Math.random() * masters.length)] : commands
    if (!base) throw new Error('the cluster has no master')
    // No retries of its own: the loop here also chooses another node.
    const client = base.duplicate({ retryStrategy: null, lazyConnect: true, enableOfflineQueue: false })
    client.on('error', () => {})
    client.on('messageBuffer', (channel: Buffer, bytes: Buffer) => this.#tell(`${channel}`, bytes))
    const channels = [...this.#listeners.keys()]
    try {
      await this.#within(client.connect())
      // Only what has been subscribed to is heard, though ioredis says 'ready' before.
      for (let i = 0; i < channels.length; i += 1_000) {
        await this.#within(client.call('subscribe', ...channels.slice(i, i + 1_000)))
      }
      if (this.#closed) throw new Error('the store was closed')
    } catch (error) {
      await disconnect(client)
      throw error
    }
    client.on('close', () => this.#lost(client))
    if (client.status !== 'ready') throw new Error('the connection broke at once')
    this.#client = client
    for (const channel of channels) if (this.#listeners.has(channel)) this.#confirmed.add(channel)
    this.#attempt = 0
    this.#heartbeat = setInterval(() => this.#beat(client), HEARTBEAT).unref()
    return client
  }

  #beat(client: RedisClient): void {
    this.#within(client.call('ping')).catch(() => client.disconnect())
  }

  #lost(client: RedisClient): void {
    if (this.#client !== client) return
    this.#client = undefined
    this.#connecting = undefined
    this.#confirmed.clear()
    for (const channel of this.#listeners.keys()) this.#missed.add(channel)
    clearInterval(this.#heartbeat)
    this.#reconnect()
  }

  #reconnect(): void {
    if (this.#closed || this.#listeners.size === 0) return
    this.#attempt += 1
    this.#retry = setTimeout(() => this.#tryAgain(), backoff(this.#attempt)).unref()
  }

  #tryAgain(): void {
    clearTimeout(this.#retry)
    this.#retry = undefined
    this.#connect().then(
      () => {
        for (const channel of [...this.#missed]) this.#tell(channel)
      },
      () => this.#reconnect(),
    )
  }

  // What was missed is told before what is new, which may come with the same packet as the confirmation.
  #tell(channel: string, bytes?: Buffer): void {
    if (this.#missed.delete(channel) && bytes !== undefined) this.#tell(channel)
    for (const onBytes of [...(this.#listeners.get(channel) ?? [])]) onBytes(bytes)
  }

  #within<T>(promise: Promise<T>): Promise<T> {
    const started = monotonicNow()
    return withTimeout(promise, this.#timeout, () => {
      const waited = Math.round(monotonicNow() - started)
      return unavailable(this.#connection.where, `no answer within ${waited} ms`)
    })
  }
}
