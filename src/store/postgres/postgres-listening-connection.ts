import { Socket } from 'node:net'
import { withTimeout } from '../../clock.ts'
import type { PersistError } from '../../errors.ts'
import type { PostgresClient, PostgresDriver } from './postgres-driver.ts'

export interface ListeningConnectionOptions {
  readonly Client: PostgresDriver['Client']
  /** What pg's client takes. */
  readonly config: object
  readonly timeout: number
  readonly late: () => PersistError
  readonly onNotification: (channel: string, payload: string) => void
  /** Called once, however the connection ends; not before it was open. */
  readonly onLost: (connection: ListeningConnection, error?: Error) => void
}

type Made = { readonly destroy: () => void } | undefined

/** One client of pg, for LISTEN and locks. Whatever it does not answer in time is the end of it. */
export class ListeningConnection {
  readonly #options: ListeningConnectionOptions
  readonly #client: PostgresClient
  readonly #socket: Made
  /** One statement after the other: pg has no queue of its own to rely on. */
  #last: Promise<unknown> = Promise.resolve()
  /** Advisory locks count how often they were taken: ours are taken once. */
  readonly #locks = new Set<string>()
  #ended = false

  private constructor(options: ListeningConnectionOptions) {
    this.#options = options
    // We bring the socket along, so that we can cut it: a goodbye waits for an answer that a dead server never gives.
    const { stream } = options.config as { stream?: unknown }
    const made = typeof stream === 'function' ? stream(options.config) : (stream ?? new Socket())
    this.#socket = made as Made
    this.#client = new options.Client({ ...options.config, stream: made })
    this.#client.on('notification', ({ channel, payload = '' }) => options.onNotification(channel, payload))
    this.#client.on('error', (error) => this.destroy(error))
    this.#client.on('end', () => this.destroy())
  }

  static async open(options: ListeningConnectionOptions): Promise<ListeningConnection> {
    const connection = new ListeningConnection(options)
    const connecting = connection.#client.connect()
    try {
      await withTimeout(connecting, options.timeout, options.late)
      return connection
    } catch (error) {
      connection.destroy()
      throw error
    }
  }

  /** The server process behind it, as it was told at the start. */
  get processId(): number {
    return Number(this.#client.processID ?? 0)
  }

  get ended(): boolean {
    return this.#ended
  }

  run<Row>(text: string): Promise<Row[]> {
    const running = this.#last.then(async () => {
      const { late, timeout } = this.#options
      if (this.#ended) throw late()
      const answer = this.#client.query({ text })
      const { rows } = await withTimeout(answer, timeout, () => {
        const error = late()
        this.destroy(error)
        return error
      })
      return rows as Row[]
    })
    this.#last = running.catch(() => {})
    return running
  }

  /** Takes an advisory lock, if it is free or ours. */
  async lock(key: string): Promise<boolean> {
    if (this.#locks.has(key)) return true
    const [answer] = await this.run<{ held: boolean }>(`SELECT pg_try_advisory_lock(${key}) AS held`)
    if (answer!.held) this.#locks.add(key)
    return answer!.held
  }

  async unlock(key: string): Promise<void> {
    if (this.#locks.delete(key)) await this.run(`SELECT pg_advisory_unlock(${key})`)
  }

  /** Says goodbye, and waits a second for the answer. */
  async end(): Promise<void> {
    this.#ended = true
    await withTimeout(this.#client.end(), 1000, this.#options.late).catch(() => {})
    this.#socket?.destroy()
  }

  destroy(error?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#socket?.destroy()
    // Nobody waits for it: it settles what pg still holds.
    this.#client.end().catch(() => {})
    this.#options.onLost(this, error)
  }
}
