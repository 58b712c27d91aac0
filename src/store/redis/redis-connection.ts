import { delay, monotonicNow, withTimeout } from '../../clock.ts'
import { isPersistError, PersistError } from '../../errors.ts'
import { MAX_WAITING_BYTES } from '../common/group-commit.ts'
import type { RedisClient, RedisClientLike } from './redis-client.ts'
import { createClient, disconnect } from './redis-driver.ts'
import { carriedOut, driverText, isRefusal, translate, unavailable } from './redis-errors.ts'
import type { RedisScript } from './redis-script.ts'
import type { RedisTarget } from './redis-url.ts'

export interface ConnectionOptions {
  readonly source: RedisTarget | RedisClientLike
  /** How it is called in errors: a URL without its password. */
  readonly where: string
  /** Milliseconds an operation may take, waiting for the connection included. */
  readonly timeout: number
  /** Operations that may be under way, connected or not. */
  readonly maxWaiting: number
}

export interface CallOptions {
  /** It may be carried out twice without harm: sent again when the connection breaks. Default false. */
  readonly repeatable?: boolean
  /** It writes nothing, or nothing that an older release could not read. Default false. */
  readonly reads?: boolean
  /** Not refused when much is waiting: there are few of these, and more than one request depends on each. Default false. */
  readonly always?: boolean
}

export const REPEATABLE: CallOptions = { repeatable: true }
export const READS: CallOptions = { repeatable: true, reads: true }
export const ALWAYS: CallOptions = { repeatable: true, always: true }

type Argument = string | number | Buffer

/** What is done with a server before it is used: `check` first of all, `mark` before anything is written. Once each. */
export interface ServerSteps {
  check(client: RedisClient): Promise<void>
  mark(client: RedisClient): Promise<void>
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
  readonly #steps: ServerSteps
  readonly #done = new Map<keyof ServerSteps, Promise<void>>()
  readonly #pending = new Set<Promise<unknown>>()
  #bytes = 0
  #client: RedisClient | undefined
  #opening: Promise<RedisClient> | undefined
  #lostAt: number | undefined
  #upSince: number | undefined
  #lastError = 'it is not connected'
  #refusal: PersistError | undefined
  #closing = false
  #closed = false
  #wakeUp: (() => void)[] = []
  #onReady: () => void = () => {}

  constructor(options: ConnectionOptions, steps: ServerSteps) {
    this.#options = options
    this.where = options.where
    this.#steps = steps
  }

  get closing(): boolean {
    return this.#closing
  }

  /** Calls it each time the connection is made. */
  onReady(listener: () => void): void {
    this.#onReady = listener
  }

  /** Everything public begins with this: what was accepted before `stop()` goes on to its end. */
  assertOpen(): void {
    if (this.#closing) throw new PersistError('STORE_CLOSED', 'The Redis store is closed; open a new one.')
  }

  /** Milliseconds since the connection was made; 0 while there is none. */
  get uptime(): number {
    return this.#upSince === undefined ? 0 : monotonicNow() - this.#upSince
  }

  call(command: string, args: (string | number)[], options?: CallOptions): Promise<unknown> {
    return this.run((client) => client.call(command, ...args), options, sizeOf(args))
  }

  eval(script: RedisScript, keys: string[], args: Argument[], options?: CallOptions): Promise<unknown> {
    return this.run((client) => evaluate(client, 'call', script, keys, args), options, sizeOf(args))
  }

  /** The same, for answers that are bytes. */
  evalBuffer(script: RedisScript, keys: string[], args: Argument[], options?: CallOptions): Promise<unknown> {
    return this.run((client) => evaluate(client, 'callBuffer', script, keys, args), options, sizeOf(args))
  }

  /** `size`: the bytes of it, about. */
  run<T>(send: (client: RedisClient) => Promise<T>, options: CallOptions = {}, size = 0): Promise<T> {
    if (!options.always) {
      const refused = this.#overload(size)
      if (refused) return Promise.reject(refused)
    }
    const operation = this.#attempt(send, options)
    this.#pending.add(operation)
    this.#bytes += size
    const settled = () => {
      this.#pending.delete(operation)
      this.#bytes -= size
    }
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
    await this.#once('check', client)
    return client
  }

  /** Nothing more is accepted. */
  stop(): void {
    this.#closing = true
  }

  /** Lets end what was accepted, for as long as an operation may take. */
  async close(): Promise<void> {
    this.#closing = true
    for (const deadline = monotonicNow() + this.#options.timeout; this.#pending.size > 0; ) {
      if (monotonicNow() > deadline) break
      await Promise.race([Promise.allSettled(this.#pending), delay(this.#options.timeout)])
      // An operation of several steps takes the next one now.
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#closed = true
    const client = await this.#opening?.catch(() => undefined)
    this.#wake()
    if (client) await disconnect(client)
  }

  async #attempt<T>(
    send: (client: RedisClient) => Promise<T>,
    { repeatable = false, reads = false }: CallOptions,
  ): Promise<T> {
    const deadline = monotonicNow() + this.#options.timeout
    for (;;) {
      const client = await this.online(deadline)
      if (!reads) await this.#once('mark', client)
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

  #once(step: keyof ServerSteps, client: RedisClient): Promise<void> {
    let done = this.#done.get(step)
    if (!done) {
      const late = () => this.#tooLate(client)
      done = withTimeout(this.#steps[step](client), this.#options.timeout, late).catch((error) => {
        this.#done.delete(step)
        throw translate(this.where, error)
      })
      this.#done.set(step, done)
    }
    return done
  }

  #overload(size: number): PersistError | undefined {
    const { maxWaiting } = this.#options
    if (this.#pending.size < maxWaiting && (this.#bytes === 0 || this.#bytes + size <= MAX_WAITING_BYTES))
      return
    const facts = `${this.#pending.size} operations with ${this.#bytes} bytes wait for Redis at ${this.where}`
    const state = this.#client?.status === 'ready' ? 'it does not keep up' : 'it is not connected'
    return new PersistError('OVERLOADED', `${facts}, which is the limit; ${state}.`)
  }

  // Redis answers in order: if this command has no answer, neither has anything sent after it. The connection may
  // be cut without either side having been told; a new one finds out.
  #tooLate(client: RedisClient): PersistError {
    if (!client.isCluster && client.status === 'ready') client.disconnect(true)
    return unavailable(this.where, `no answer within ${this.#options.timeout} ms`)
  }

  async #open(): Promise<RedisClient> {
    if (this.#closed) throw this.#notConnected()
    this.#opening ??= createClient(this.#options.source, this.#options.timeout).then(
      (client) => {
        client.on('error', (error: unknown) => {
          this.#lastError = driverText(error)
          // Waiting does not make a password right. ioredis goes on trying meanwhile: the server may be put right.
          this.#refusal = isRefusal(this.#lastError) ? translate(this.where, this.#lastError) : undefined
          if (this.#refusal) this.#wake()
        })
        client.on('ready', () => {
          this.#lostAt = undefined
          this.#refusal = undefined
          this.#upSince = monotonicNow()
          this.#wake()
          this.#onReady()
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
    while (client.status !== 'ready') {
      if (this.#refusal) throw this.#refusal
      if (this.#closed || client.status === 'end') throw this.#notConnected()
      const until = Math.min(deadline, (this.#lostAt ?? deadline) + this.#options.timeout)
      const left = until - monotonicNow()
      if (left <= 0) throw this.#notConnected()
      const ready = new Promise<void>((resolve) => this.#wakeUp.push(resolve))
      await withTimeout(ready, left, () => this.#notConnected())
    }
  }

  #wake(): void {
    for (const wake of this.#wakeUp.splice(0)) wake()
  }

  #notConnected(): PersistError {
    return unavailable(this.where, `there is no connection (${this.#lastError.replace(/\.$/, '')})`)
  }
}

/** About the bytes of it: as exact as a bound must be. */
function sizeOf(args: readonly Argument[]): number {
  let size = 0
  for (const each of args) size += typeof each === 'number' ? 8 : each.length
  return size
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
    if (!driverText(error).startsWith('NOSCRIPT')) throw error
    return client[how]('eval', source, keys.length, ...keys, ...args)
  }
}
