import { createHash } from 'node:crypto'
import { delay, monotonicNow, withTimeout } from '../../clock.ts'
import { errorText, maskUrl, PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { PostgresPool, PostgresPoolClient, PostgresQuery } from './postgres-driver.ts'
import { classify, closed, isHopeless, timedOut, toPersistError } from './postgres-errors.ts'
import { Lane } from './postgres-lane.ts'

export interface ConnectionsOptions {
  readonly openPool: () => Promise<PostgresPool>
  /** A pool that was given is not ended, and its connections keep their settings. */
  readonly ownsPool: boolean
  readonly masked: string
  readonly timeout: number
  /** How many connections the pool opens at the most. */
  readonly maxConnections: number
  readonly maxWaiting: number
  readonly prepare: boolean | 'auto'
  readonly logger: Logger
}

export interface QueryOptions {
  /** Running it twice does no harm, so it is run again when its connection broke. Default false. */
  readonly repeatable?: boolean
  /** It keeps sessions alive and is quickly done, so it waits behind nothing else. Default false. */
  readonly urgent?: boolean
}

const MAX_CONFLICTS = 5
/**
 * Every statement finds its rows by an index, whatever the tables hold. So none needs a plan of its own each time, which
 * takes longer than to run it; nor one for tables that were small when it was made; nor a bitmap, which passes each time
 * over all that was deleted since the last VACUUM, where an index scan does so once; nor a compiler.
 */
const SETTINGS = [
  ['plan_cache_mode', 'force_generic_plan'],
  ['enable_seqscan', 'off'],
  ['enable_bitmapscan', 'off'],
  ['jit', 'off'],
] as const
/** Connections that only urgent statements get, where the pool has so many. */
const RESERVED = 2

/**
 * All statements but LISTEN go through here: each takes a connection for itself alone, so a pooler in transaction
 * mode may stand in between. While the server is away operations wait in line, each until its time is over, and knock
 * at the door together, a pool's worth of them: after 50, 100, 200 … 1,000 ms, each times 0.5 to 1.5 by jitter.
 *
 * Two thousand clients that resume at once read for longer than any time limit. Renewals, appends and messages must not
 * stand in that line, or a node under load would lose its lease and burden others with its sessions: they have
 * connections that nobody else gets.
 */
export class PostgresConnections {
  /** Does the server process know itself under the number we were given? Undefined: no connection yet. */
  direct: boolean | undefined
  readonly masked: string
  readonly timeout: number
  readonly #options: ConnectionsOptions
  readonly #greeted = new WeakSet<object>()
  readonly #ordinary: Lane
  readonly #urgent: Lane
  /** By the statement's text. There are as many as the store has statements. */
  readonly #names = new Map<string, string>()
  #pool: Promise<PostgresPool> | undefined
  #failures = 0
  #knocking: Promise<void> | undefined
  #closed = false

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.masked = options.masked
    this.timeout = options.timeout
    this.#ordinary = new Lane(Math.max(1, options.maxConnections - RESERVED))
    this.#urgent = new Lane(Math.max(1, options.maxConnections))
  }

  /**
   * Runs one statement. Statements that PostgreSQL rolled back for the sake of another transaction are always run again.
   * Each is prepared under a name, but only where the server, and not a pooler, will remember it.
   */
  async query<Row>({ text, values = [] }: PostgresQuery, options: QueryOptions = {}): Promise<Row[]> {
    return this.use(async (client) => {
      const { prepare } = this.#options
      const prepared = prepare === 'auto' ? this.direct === true : prepare
      const query = { text, values: values as unknown[], ...(prepared ? { name: this.#nameOf(text) } : {}) }
      return (await client.query(query)).rows as Row[]
    }, options)
  }

  /** Runs `work` on one connection, within the time limit. */
  async use<T>(
    work: (client: PostgresPoolClient) => Promise<T>,
    { repeatable = false, urgent = false, timeout = this.timeout }: QueryOptions & { timeout?: number } = {},
  ): Promise<T> {
    const deadline = monotonicNow() + timeout
    const late = () => timedOut(this.masked, timeout)
    const lane = urgent ? this.#urgent : this.#ordinary
    this.#assertRoom(lane)
    await waitingIn(lane, lane.enter(timeout, late))
    try {
      for (let attempt = 1; ; attempt++) {
        const client = await waitingIn(lane, this.#acquire(deadline, late))
        let failure: ReturnType<typeof classify>
        try {
          const result = await withTimeout(work(client), Math.max(1, deadline - monotonicNow()), late)
          client.release()
          return result
        } catch (error) {
          failure = error instanceof PersistError ? 'disconnected' : classify(error)
          // A statement that is still running must not be met by the next user of the connection.
          client.release(failure === 'disconnected')
          const again =
            failure === 'conflict' ? attempt < MAX_CONFLICTS : failure === 'disconnected' && repeatable
          if (!again || monotonicNow() >= deadline) throw toPersistError(error, this.masked)
        }
        if (failure === 'conflict') await delay(Math.random() * 10 * attempt)
      }
    } finally {
      lane.leave()
    }
  }

  /** Whoever waits for a connection is told that the store is closed; who has one may finish. */
  async close(): Promise<void> {
    this.#closed = true
    const pool = await this.#pool?.catch(() => undefined)
    if (!pool) return
    const { ownsPool, logger } = this.#options
    if (ownsPool) {
      const ended = withTimeout(pool.end(), this.timeout, () => timedOut(this.masked, this.timeout))
      await ended.catch((error) =>
        logger.warn(
          { backend: 'postgres', error: errorText(error) },
          'the connections were not closed in order',
        ),
      )
    }
    pool.off('error', this.#onIdleError)
  }

  // The pool has dropped the connection already; the next operation opens another.
  readonly #onIdleError = (error: Error) => {
    this.#options.logger.warn(
      { backend: 'postgres', error: maskUrl(errorText(error)) },
      'an idle connection to PostgreSQL was lost',
    )
  }

  #open(): Promise<PostgresPool> {
    this.#pool ??= this.#options.openPool().then(
      (pool) => {
        pool.on('error', this.#onIdleError)
        return pool
      },
      (error) => {
        this.#pool = undefined
        throw error
      },
    )
    return this.#pool
  }

  #assertRoom(lane: Lane): void {
    const { maxWaiting } = this.#options
    if (lane.waiting < maxWaiting) return
    throw new PersistError(
      'OVERLOADED',
      `${maxWaiting} operations are waiting for a connection to PostgreSQL, which is the limit; it does not keep up.`,
    )
  }

  async #acquire(deadline: number, late: () => PersistError): Promise<PostgresPoolClient> {
    let last: unknown
    for (;;) {
      if (this.#closed) throw closed()
      const left = deadline - monotonicNow()
      if (left <= 0) throw last === undefined ? late() : toPersistError(last, this.masked)
      if (this.#knocking) {
        await within(this.#knocking, left)
        continue
      }
      try {
        const client = await this.#connect(left, late)
        this.#failures = 0
        return client
      } catch (error) {
        if (error instanceof PersistError || isHopeless(error)) throw toPersistError(error, this.masked)
        if (classify(error) !== 'disconnected') throw toPersistError(error, this.masked)
        last = error
        this.#backOff()
      }
    }
  }

  async #connect(left: number, late: () => PersistError): Promise<PostgresPoolClient> {
    const pool = await this.#open()
    const connecting = pool.connect()
    let client: PostgresPoolClient
    try {
      client = await withTimeout(connecting, left, late)
    } catch (error) {
      connecting.then(
        (client) => client.release(),
        () => {},
      )
      throw error
    }
    if (this.#greeted.has(client)) return client
    // While a connection is taken out nobody else hears its errors, and one that nobody hears ends the process. Whoever
    // has it taken out learns of it: the statement under way is rejected with it, or the next one.
    client.on('error', () => {})
    try {
      await withTimeout(this.#greet(client), left, late)
      this.#greeted.add(client)
      return client
    } catch (error) {
      client.release(true)
      throw error
    }
  }

  /**
   * The first statement on each connection. A pooler answers with another process than it announced; it shares its
   * connections among many, so a setting must not stay behind on them.
   */
  async #greet(client: PostgresPoolClient): Promise<void> {
    const settings = this.#options.ownsPool ? [...SETTINGS, ['statement_timeout', `${this.timeout}`]] : []
    const { rows } = await client.query({
      text: `SELECT pg_backend_pid() = $1 AS direct, (
          SELECT count(set_config(name, value, false)) FROM unnest($2::text[], $3::text[]) AS setting (name, value)
          WHERE pg_backend_pid() = $1)`,
      values: [client.processID ?? 0, settings.map(([name]) => name), settings.map(([, value]) => value)],
    })
    this.direct = (rows[0] as { direct: boolean }).direct
  }

  /**
   * By what it says, schema included: two stores with different schemas may share the connections of one pool, which
   * know a name for one text only.
   */
  #nameOf(text: string): string {
    let name = this.#names.get(text)
    if (name === undefined) {
      name = `mcp_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
      this.#names.set(text, name)
    }
    return name
  }

  #backOff(): void {
    if (this.#knocking) return
    const ms = Math.min(1000, 50 * 2 ** this.#failures) * (0.5 + Math.random())
    this.#failures = Math.min(this.#failures + 1, 10)
    this.#knocking = new Promise((resolve) => {
      // Not unref'd: an operation is waiting, and its time is bounded.
      setTimeout(() => {
        this.#knocking = undefined
        resolve()
      }, ms)
    })
  }
}

async function waitingIn<T>(lane: Lane, entering: Promise<T>): Promise<T> {
  lane.waiting += 1
  try {
    return await entering
  } finally {
    lane.waiting -= 1
  }
}

async function within(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await Promise.race([
    promise,
    new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    }),
  ])
  clearTimeout(timer)
}
