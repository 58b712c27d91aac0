import { monotonicNow, withTimeout } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { RedisConnection } from './redis-connection.ts'
import { backoff, type RedisClient } from './redis-driver.ts'
import { unavailable } from './redis-errors.ts'

type OnWake = (text: string | undefined) => void

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
  readonly #listeners = new Map<string, Set<OnWake>>()
  #client: RedisClient | undefined
  #connecting: Promise<RedisClient> | undefined
  #attempt = 0
  #retry: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #closed = false

  constructor(connection: RedisConnection, { timeout }: { timeout: number }) {
    this.#connection = connection
    this.#timeout = timeout
  }

  /** Resolves once Redis has confirmed it; the result ends it. */
  async listen(channel: string, onWake: OnWake): Promise<() => Promise<void>> {
    const listeners = this.#listeners.get(channel) ?? new Set()
    this.#listeners.set(channel, listeners)
    // A function of its own: the same one may listen twice.
    const listener: OnWake = (text) => onWake(text)
    listeners.add(listener)
    try {
      const client = await this.#connect()
      await this.#within(client.call('subscribe', channel))
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

  /** Is the channel subscribed, and the connection there? */
  hears(channel: string): boolean {
    return this.#client !== undefined && this.#listeners.has(channel)
  }

  /** How many listen to the channel here. */
  listeners(channel: string): number {
    return this.#listeners.get(channel)?.size ?? 0
  }

  /** A channel we hear, other than `but`. */
  anyChannel(but: string): string | undefined {
    if (this.#client === undefined) return undefined
    for (const channel of this.#listeners.keys()) if (channel !== but) return channel
    return undefined
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    clearInterval(this.#heartbeat)
    this.#listeners.clear()
    this.#client?.disconnect()
  }

  #forget(channel: string, listener: OnWake): boolean {
    const listeners = this.#listeners.get(channel)
    listeners?.delete(listener)
    return listeners?.size === 0 && this.#listeners.delete(channel)
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
    client.on('message', (channel: string, text: string) => this.#wake(channel, text || undefined))
    try {
      await this.#within(client.connect())
      const channels = [...this.#listeners.keys()]
      for (let i = 0; i < channels.length; i += 1_000) {
        await this.#within(client.call('subscribe', ...channels.slice(i, i + 1_000)))
      }
    } catch (error) {
      client.disconnect()
      throw error
    }
    if (this.#closed) {
      client.disconnect()
      throw new Error('the store was closed')
    }
    client.on('close', () => this.#lost(client))
    if (client.status !== 'ready') throw new Error('the connection broke at once')
    this.#client = client
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
    clearInterval(this.#heartbeat)
    this.#reconnect()
  }

  #reconnect(): void {
    if (this.#closed || this.#listeners.size === 0) return
    this.#attempt += 1
    this.#retry = setTimeout(() => {
      this.#connect().then(
        () => {
          for (const channel of [...this.#listeners.keys()]) this.#wake(channel, undefined)
        },
        () => this.#reconnect(),
      )
    }, backoff(this.#attempt)).unref()
  }

  #wake(channel: string, text: string | undefined): void {
    for (const onWake of [...(this.#listeners.get(channel) ?? [])]) onWake(text)
  }

  #within<T>(promise: Promise<T>): Promise<T> {
    const started = monotonicNow()
    return withTimeout(promise, this.#timeout, () => {
      const waited = Math.round(monotonicNow() - started)
      return unavailable(this.#connection.where, `no answer within ${waited} ms`)
    })
  }
}
