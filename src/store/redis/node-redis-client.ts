import { EventEmitter } from 'node:events'
import { errorText } from '../../errors.ts'
import type { NodeRedisLike, RedisClient } from './redis-client.ts'

type Argument = string | number | Buffer

/** The slice of a client of the package `redis` that we use. */
interface NodeRedis extends EventEmitter {
  /** Undefined in release 5 for `createClient()` without any. */
  readonly options: { readonly socket?: object } | undefined
  duplicate(overrides: object): NodeRedis
  connect(): Promise<unknown>
  destroy(): void
  sendCommand(args: (string | Buffer)[], options?: object): Promise<unknown>
  subscribe(
    channels: string[],
    listener: (bytes: Buffer, channel: Buffer) => void,
    asBuffers: true,
  ): Promise<void>
  unsubscribe(channels: string[]): Promise<void>
}

export interface NodeRedisOptions {
  /** Milliseconds that making a connection may take. */
  readonly timeout: number
  /** Milliseconds before the next attempt; null: a connection that was lost stays so. */
  readonly retry: ((attempt: number) => number) | null
}

/** The mark of a bulk string in the protocol, by which the package says what becomes of one. */
const BULK_STRING = '$'.charCodeAt(0)
const AS_BUFFERS = { typeMapping: { [BULK_STRING]: Buffer } }

/**
 * A client of the package `redis` with the manners of ioredis that the store relies on. Each connection is a client of its
 * own, which is given up with its connection: that package would go on by itself with the commands that it has kept, and
 * only their sender knows whether a command may be sent again.
 */
export class NodeRedisClient implements RedisClient {
  status: 'wait' | 'connecting' | 'ready' | 'reconnecting' | 'end' = 'wait'
  readonly #events = new EventEmitter()
  readonly #like: NodeRedis
  readonly #options: NodeRedisOptions
  #client: NodeRedis | undefined
  #attempt = 0
  #timer: NodeJS.Timeout | undefined

  /** `like` says where and how to connect, and is not used itself. */
  constructor(like: NodeRedisLike, options: NodeRedisOptions) {
    this.#like = like as unknown as NodeRedis
    this.#options = options
  }

  on(event: string, listener: (...args: never[]) => void): void {
    this.#events.on(event, listener as (...args: unknown[]) => void)
  }

  /** Settles with the first attempt; where there are more, they go on by themselves. */
  async connect(): Promise<void> {
    this.status = 'connecting'
    const client = this.#like.duplicate(overrides(this.#like, this.#options.timeout))
    this.#client = client
    // What `connect()` rejects with is told here too.
    client.on('error', (error) => this.#lost(client, error))
    try {
      await client.connect()
    } catch (error) {
      this.#lost(client, error)
      throw error
    }
    if (this.#client !== client) throw new Error('Connection is closed.')
    this.#attempt = 0
    this.status = 'ready'
    this.#events.emit('ready')
  }

  disconnect(reconnect = false): void {
    if (reconnect) {
      if (this.#client) this.#lost(this.#client, new Error('Connection is closed.'))
      return
    }
    const wasReady = this.status === 'ready'
    clearTimeout(this.#timer)
    this.status = 'end'
    const client = this.#client
    this.#client = undefined
    if (client) destroy(client)
    if (wasReady) this.#events.emit('close')
    setImmediate(() => this.#events.emit('end'))
  }

  call(command: string, ...args: Argument[]): Promise<unknown> {
    if (command === 'subscribe') return this.#subscribe(args.map(String))
    if (command === 'unsubscribe') return this.#send((client) => client.unsubscribe(args.map(String)))
    return this.#send((client) => client.sendCommand([command, ...args.map(sendable)]))
  }

  callBuffer(command: string, ...args: Argument[]): Promise<unknown> {
    return this.#send((client) => client.sendCommand([command, ...args.map(sendable)], AS_BUFFERS))
  }

  /** For what subscribes: it does not come back by itself. */
  duplicate(): NodeRedisClient {
    const { timeout } = this.#options
    return new NodeRedisClient(this.#like as unknown as NodeRedisLike, { timeout, retry: null })
  }

  #subscribe(channels: string[]): Promise<unknown> {
    const tell = (bytes: Buffer, channel: Buffer) => this.#events.emit('messageBuffer', channel, bytes)
    return this.#send((client) => client.subscribe(channels, tell, true))
  }

  async #send(send: (client: NodeRedis) => Promise<unknown>): Promise<unknown> {
    const client = this.#client
    if (!client || this.status !== 'ready') throw new Error("The connection isn't ready.")
    try {
      return await send(client)
    } catch (error) {
      // Told in the words that `redis-errors.ts` knows: the command was cut off, and may have been carried out.
      if (this.#client !== client || isCutOff(error)) throw new Error('Connection is closed.')
      // After a failover our old master may have become a replica: find the new one.
      if (errorText(error).startsWith('READONLY')) this.disconnect(true)
      throw error
    }
  }

  #lost(client: NodeRedis, error: unknown): void {
    if (this.#client !== client) return
    this.#client = undefined
    destroy(client)
    const { retry } = this.#options
    this.status = retry ? 'reconnecting' : 'end'
    this.#events.emit('error', error)
    this.#events.emit('close')
    if (!retry) {
      this.#events.emit('end')
      return
    }
    this.#attempt += 1
    // As with ioredis, this keeps the process alive: what was accepted is not dropped by an early exit.
    this.#timer = setTimeout(() => this.connect().catch(() => {}), retry(this.#attempt))
  }
}

/** Where a client connects to is its own; how it behaves is ours, whoever configured it. */
function overrides({ options }: NodeRedis, timeout: number): object {
  return {
    // What it said stands in the other options by now.
    url: undefined,
    socket: {
      ...options?.socket,
      reconnectStrategy: false,
      connectTimeout: timeout,
      socketTimeout: undefined,
    },
    RESP: 2,
    keyPrefix: undefined,
    readonly: false,
    disableOfflineQueue: true,
    commandsQueueMaxLength: undefined,
    commandOptions: { timeout: undefined },
    pingInterval: undefined,
    clientSideCache: undefined,
    emitInvalidate: false,
    maintNotifications: 'disabled',
  }
}

function destroy(client: NodeRedis): void {
  try {
    client.destroy()
  } catch {
    // Release 5 says so of one that is closed already.
  }
}

function sendable(argument: Argument): string | Buffer {
  return typeof argument === 'number' ? String(argument) : argument
}

/** By the names of their classes; an answer of Redis is none of these. */
function isCutOff(error: unknown): boolean {
  const name = (error as Error | undefined)?.constructor?.name ?? ''
  return /^(SocketClosedUnexpectedly|DisconnectsClient|ClientClosed|ClientOffline|SocketTimeout|Abort)Error$/.test(
    name,
  )
}
