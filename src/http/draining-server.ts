import { type IncomingMessage, Server, type ServerResponse } from 'node:http'
import { delay, monotonicNow } from '../clock.ts'

// Milliseconds that an open connection may stay silent after the end of listening.
const SILENT = 500
// Milliseconds: a turn of the event loop in which hardly anybody can have connected unseen. On a busy or slow machine
// turns as short as that are rare: what passes for short grows with the wait, as much again every `SHORT_TURN_GROWS`.
const SHORT_TURN = 0.02
const SHORT_TURN_GROWS = 100

/**
 * A server that stops without breaking what is on its way to it. When a listening socket is closed, the system resets the
 * connections that nobody has accepted yet; and `close()` ends the connections that lie in the pool of a load balancer,
 * which may just be sending its next request.
 */
export class DrainingServer extends Server {
  #draining = false
  #closed = false
  #ended: Promise<void> | undefined
  /** Requests that wait for the end of listening. */
  #held: (() => void)[] | undefined

  constructor(listener: (req: IncomingMessage, res: ServerResponse) => void) {
    super((req, res) => {
      if (this.#held) this.#held.push(() => listener(req, res))
      else listener(req, res)
    })
  }

  /** Listens when `check` has settled, or emits what it found wrong as `error`; not at all if it is closed first. */
  async listenWhen(check: () => Promise<unknown>, args: readonly unknown[]): Promise<void> {
    let wrong: unknown
    try {
      wrong = await check()
      if (wrong === undefined && !this.#closed) Reflect.apply(this.listen, this, args)
    } catch (error) {
      wrong = error
    }
    // In a turn of its own: nobody listening makes it an uncaught exception, as of any other server that cannot listen.
    if (wrong !== undefined) setImmediate(() => this.emit('error', wrong))
  }

  override close(callback?: (error?: Error) => void): this {
    this.#closed = true
    return super.close(callback)
  }

  /**
   * Stops listening right after a short turn of the event loop that brought no connection, or after `most` ms. Node
   * accepts one in a turn, so nobody was waiting when that turn began. Requests are held back meanwhile: on a node that
   * serves them more may come in a turn than one.
   */
  async stopListening(most: number): Promise<void> {
    await DrainingServer.#rehearse()
    await this.#stopListening(most)
  }

  /** Lets open connections have one more request, or 0.5 s of silence, but no more than `most` ms. Resolves when all are over. */
  async ended(most: number): Promise<void> {
    await Promise.race([this.#ended, delay(Math.min(SILENT, most))])
    super.closeIdleConnections()
    await this.#ended
  }

  /** `close()` calls it. */
  override closeIdleConnections(): void {
    if (!this.#draining) super.closeIdleConnections()
  }

  #stopListening(most: number): Promise<void> {
    this.#draining = true
    this.#held = []
    let accepted = true
    this.on('connection', () => {
      accepted = true
    })
    const from = monotonicNow()
    let turn = from
    return new Promise((resolve) => {
      const look = () => {
        const now = monotonicNow()
        const short = SHORT_TURN * (1 + (now - from) / SHORT_TURN_GROWS)
        if ((!accepted && now - turn < short) || now - from > most) {
          this.#ended = new Promise((ended) => this.close(() => ended()))
          const held = this.#held ?? []
          this.#held = undefined
          // Each for itself: a listener that throws does not take the others along.
          for (const serve of held) setImmediate(serve)
          return resolve()
        }
        accepted = false
        turn = now
        setImmediate(look)
      }
      setImmediate(look)
    })
  }

  /** Code that runs for the first time takes ten times as long, and this must not be where it counts. */
  static async #rehearse(): Promise<void> {
    const server = new DrainingServer(() => {})
    const listening = new Promise((resolve) => server.on('listening', resolve).on('error', resolve))
    server.listen(0, '127.0.0.1')
    await listening
    await server.#stopListening(0)
  }
}
