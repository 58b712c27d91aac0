import { delay, monotonicNow, withTimeout } from '../../clock.ts'
import { errorText, maskUrl, PersistError } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { PostgresPool, PostgresPoolClient, PostgresQuery } from './postgres-driver.ts'
import { classify, isHopeless, timedOut, toPersistError } from './postgres-errors.ts'

export interface ConnectionsOptions {
  readonly openPool: () => Promise<PostgresPool>
  /** A pool that was given is not ended, and its connections keep their settings. */
  readonly ownsPool: boolean
  readonly masked: string
  readonly timeout: number
  readonly maxWaiting: number
  readonly prepare: boolean | 'auto'
  readonly logger: Logger
}

const MAX_CONFLICTS = 5

/**
 * All statements but LISTEN go through here: each takes a connection for itself alone, so a pooler in transaction
 * mode may stand in between. While the server is away operations wait in line, each until its time is over, and knock
 * at the door together, a pool's worth of them: after 50, 100, 200 … 1,000 ms, each times 0.5 to 1.5 by jitter.
 */
export class PostgresConnections {
  /** Does the server process know itself under the number we were given? Undefined: no connection yet. */
  direct: boolean | undefined
  readonly masked: string
  readonly timeout: number
  readonly #options: ConnectionsOptions
  readonly #greeted = new WeakSet<object>()
  #pool: Promise<PostgresPool> | undefined
  #waiting = 0
  #failures = 0
  #knocking: Promise<void> | undefined

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.masked = options.masked
    this.timeout = options.timeout
  }

  /** Name the statement only where the server, and not a pooler, will remember it. */
  get prepares(): boolean {
    const { prepare } = this.#options
    return prepare === 'auto' ? this.direct === true : prepare
  }

  /**
   * `repeatable`: running it twice does no harm, so it is run again when its connection broke. Statements that
   * PostgreSQL rolled back for the sake of another transaction are always run again.
   */
  async query<Row>(query: PostgresQuery, { repeatable = false } = {}): Promise<Row[]> {
    const { text, values = [], name } = query
    const statement = { text, values: values as unknown[], ...(name && this.prepares ? { name } : {}) }
    return this.use(async (client) => (await client.query(statement)).rows as Row[], { repeatable })
  }

  /** Runs `work` on one connection, within the time limit. */
  async use<T>(
    work: (client: PostgresPoolClient) => Promise<T>,
    { repeatable = false, timeout = this.timeout } = {},
  ): Promise<T> {
    const deadline = monotonicNow() + timeout
    const late = () => timedOut(this.masked, timeout)
    for (let attempt = 1; ; attempt++) {
      const client = await this.#acquire(deadline, late)
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
  }

  async close(): Promise<void> {
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

  async #acquire(deadline: number, late: () => PersistError): Promise<PostgresPoolClient> {
    const { maxWaiting } = this.#options
    if (this.#waiting >= maxWaiting) {
      throw new PersistError(
        'OVERLOADED',
        `${maxWaiting} operations are waiting for a connection to PostgreSQL, the most that may; it does not keep up.`,
      )
    }
    this.#waiting += 1
    let last: unknown
    try {
      for (;;) {
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
    } finally {
      this.#waiting -= 1
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
    const limit = this.#options.ownsPool ? `${this.timeout}` : '0'
    const { rows } = await client.query({
      text: `SELECT CASE WHEN pg_backend_pid() = $1 AND $2 <> '0'
                    THEN set_config('statement_timeout', $2, false) END, pg_backend_pid() = $1 AS direct`,
      values: [client.processID ?? 0, limit],
    })
    this.direct = (rows[0] as { direct: boolean }).direct
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
