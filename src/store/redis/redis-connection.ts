import { monotonicNow, withTimeout } from '../../clock.ts'
import { errorText, isPersistError, PersistError } from '../../errors.ts'
import { createClient, type RedisClient, type RedisClientLike } from './redis-driver.ts'
import { carriedOut, translate, unavailable } from './redis-errors.ts'
import type { RedisScript } from './redis-script.ts'
import type { RedisTarget } from './redis-url.ts'

export interface ConnectionOptions {
  readonly source: RedisTarget | RedisClientLike
  /** How it is called in errors: a URL without its password. */
  readonly where: string
  /** Milliseconds an operation may take, waiting for the connection included. */
  readonly timeout: number
  /** Operations that may wait for the connection. */
  readonly maxWaiting: number
}

export interface CallOptions {
  /** It may be carried out twice without harm: sent again when the connection breaks. Default false. */
  readonly repeatable?: boolean
}

/** Between two attempts of one operation, in ms: an election or a reconnection takes longer than that anyway. */
const PAUSE = 40

/**
 * The connection for commands: one to a server, or one to each master of a cluster. An operation waits for the
 * connection, but no longer than `timeout` after it was lost: while Redis stays away, operations fail at once.
 */
export class RedisConnection {
  readonly where: string
  readonly #options: ConnectionOptions
  readonly #check: (client: RedisClient) => Promise<void>
  readonly #pending = new Set<Promise<unknown>>()
  #client: RedisClient | undefined
  #opening: Promise<RedisClient> | undefined
  #checked: Promise<void> | undefined
  #lostAt: number | undefined
  #upSince: number | undefined
  #lastError = 'it is not connected'
  #closed = false
  #waiting = 0
  #wakeUp: (() => void)[] = []

  /** `check` runs once, on the first connection, before anything else. */
  constructor(options: ConnectionOptions, check: (client: RedisClient) => Promise<void>) {
    this.#options = options
    this.where = options.where
    this.#check = check
  }

  /** Milliseconds since the connection was made; 0 while there is none. */
  get uptime(): number {
    return this.#upSince === undefined ? 0 : monotonicNow() - this.#upSince
  }

  call(command: string, args: (string | number)[], options?: CallOptions): Promise<unknown> {
    return this.run((client) => client.call(command, ...args), options)
  }

  eval(script: RedisScript, keys: string[], args: (string | number | Buffer)[], options?: CallOptions) {
    return this.run((client) => evaluate(client, 'call', script, keys, args), options)
  }

  /** The same, for answers that are bytes. */
  evalBuffer(
    script: RedisScript,
    keys: string[],
    args: (string | number | Buffer)[],
    options?: CallOptions,
  ): Promise<unknown> {
    return this.run((client) => evaluate(client, 'callBuffer', script, keys, args), options)
  }

  run<T>(send: (client: RedisClient) => Promise<T>, options: CallOptions = {}): Promise<T> {
    const operation = this.#attempt(send, options)
    this.#pending.add(operation)
    const settled = () => this.#pending.delete(operation)
    operation.then(settled, settled)
    return operation
  }

  /** A connected client, unchecked. */
  async connected(deadline = monotonicNow() + this.#options.timeout): Promise<RedisClient> {
    const client = this.#client ?? (await this.#open())
    if (client.status !== 'ready') await this.#untilReady(client, deadline)
    return client
  }

  /** A connected client whose server was found fit. */
  async online(deadline?: number): Promise<RedisClient> {
    const client = await this.connected(deadline)
    this.#checked ??= withTimeout(this.#check(client), this.#options.timeout, () => this.#tooLate(client))
    try {
      await this.#checked
    } catch (error) {
      this.#checked = undefined
      throw translate(this.where, error)
    }
    return client
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#pending)
    this.#closed = true
    const client = await this.#opening?.catch(() => undefined)
    client?.disconnect()
    for (const wake of this.#wakeUp.splice(0)) wake()
  }

  async #attempt<T>(
    send: (client: RedisClient) => Promise<T>,
    { repeatable = false }: CallOptions,
  ): Promise<T> {
    const deadline = monotonicNow() + this.#options.timeout
    for (;;) {
      const client = await this.online(deadline)
      try {
        const left = Math.max(1, deadline - monotonicNow())
        return await withTimeout(send(client), left, () => this.#tooLate(client))
      } catch (error) {
        const carried = isPersistError(error) ? 'refused' : carriedOut(error)
        const again = carried === 'no' || (carried === 'unknown' && repeatable)
        if (!again || monotonicNow() + PAUSE > deadline) throw translate(this.where, error)
        await new Promise((resolve) => setTimeout(resolve, PAUSE))
      }
    }
  }

  // Redis answers in order: if this command has no answer, neither has anything sent after it. The connection may
  // be cut without either side having been told; a new one finds out.
  #tooLate(client: RedisClient): PersistError {
    if (!client.isCluster && client.status === 'ready') client.disconnect(true)
    return unavailable(this.where, `no answer within ${this.#options.timeout} ms`)
  }

  async #open(): Promise<RedisClient> {
    this.#opening ??= createClient(this.#options.source, this.#options.timeout).then(
      (client) => {
        client.on('error', (error: unknown) => {
          this.#lastError = errorText(error)
        })
        client.on('ready', () => {
          this.#lostAt = undefined
          this.#upSince = monotonicNow()
          for (const wake of this.#wakeUp.splice(0)) wake()
        })
        client.on('close', () => {
          this.#lostAt ??= monotonicNow()
          this.#upSince = undefined
        })
        // A failed first attempt is told by `error`, and ioredis goes on trying.
        client.connect().catch(() => {})
        this.#client = client
        return client
      },
      (error) => {
        this.#opening = undefined
        throw error
      },
    )
    return this.#opening
  }

  async #untilReady(client: RedisClient, deadline: number): Promise<void> {
    if (this.#waiting >= this.#options.maxWaiting) {
      const facts = `${this.#waiting} operations wait for Redis at ${this.where}`
      throw new PersistError('OVERLOADED', `${facts}, the most that may; it is not connected.`)
    }
    this.#waiting += 1
    try {
      while (client.status !== 'ready') {
        if (this.#closed || client.status === 'end') throw this.#notConnected()
        const until = Math.min(deadline, (this.#lostAt ?? deadline) + this.#options.timeout)
        const left = until - monotonicNow()
        if (left <= 0) throw this.#notConnected()
        const ready = new Promise<void>((resolve) => this.#wakeUp.push(resolve))
        await withTimeout(ready, left, () => this.#notConnected())
      }
    } finally {
      this.#waiting -= 1
    }
  }

  #notConnected(): PersistError {
    return unavailable(this.where, `there is no connection (${this.#lastError.replace(/\.$/, '')})`)
  }
}

/**
 * By digest; with the whole source where Redis does not know the script (any more): after a restart, a failover or a
 * SCRIPT FLUSH. The refusal says that nothing was carried out.
 */
export async function evaluate(
  client: RedisClient,
  how: 'call' | 'callBuffer',
  { sha, source }: RedisScript,
  keys: string[],
  args: (string | number | Buffer)[],
): Promise<unknown> {
  try {
    return await client[how]('evalsha', sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (!errorText(error).startsWith('NOSCRIPT')) throw error
    return client[how]('eval', source, keys.length, ...keys, ...args)
  }
}
