import { Server } from 'node:http'
import { delay, monotonicNow } from '../clock.ts'

// Milliseconds. For so long a moment to stop listening is waited for; an open connection may stay silent; and a turn of
// the event loop may take in which hardly anybody has connected unseen. On a busy or slow machine turns as short as that
// are rare: what passes for short grows with the wait, as much again every `SHORT_TURN_GROWS`.
const ACCEPT = 2000
const SILENT = 1000
const SHORT_TURN = 0.02
const SHORT_TURN_GROWS = 100

/**
 * A server that stops without breaking what is on its way to it. When a listening socket is closed, the system resets the
 * connections that nobody has accepted yet; and `close()` ends the connections that lie in the pool of a load balancer,
 * which may just be sending its next request.
 */
export class DrainingServer extends Server {
  #draining = false

  /**
   * Stops listening at a moment when nobody is being accepted, lets each open connection have one more request, or
   * 1 s of silence, and resolves when none is left: their answers are the caller's to end (`shouldKeepAlive = false`).
   * Waits take `deadline` ms at the most.
   */
  async drain(deadline: number): Promise<void> {
    await DrainingServer.#rehearse()
    const closed = this.#stop(Math.min(ACCEPT, deadline / 2))
    await Promise.race([closed, delay(Math.min(SILENT, deadline))])
    super.closeIdleConnections()
    await closed
  }

  /** `close()` calls it. */
  override closeIdleConnections(): void {
    if (!this.#draining) super.closeIdleConnections()
  }

  /**
   * Closes right after a short turn of the event loop that brought no connection, or after `most` ms: Node accepts one
   * in a turn, so nobody was waiting when the turn began. Resolves when the open connections have ended.
   */
  #stop(most: number): Promise<void> {
    this.#draining = true
    return new Promise((resolve) => {
      let accepted = true
      this.on('connection', () => {
        accepted = true
      })
      const from = monotonicNow()
      let turn = from
      const look = () => {
        const now = monotonicNow()
        const short = SHORT_TURN * (1 + (now - from) / SHORT_TURN_GROWS)
        if ((!accepted && now - turn < short) || now - from > most) return void this.close(() => resolve())
        accepted = false
        turn = now
        setImmediate(look)
      }
      setImmediate(look)
    })
  }

  /** Code that runs for the first time takes ten times as long, and this must not be where it counts. */
  static async #rehearse(): Promise<void> {
    const server = new DrainingServer()
    const listening = new Promise((resolve) => server.on('listening', resolve).on('error', resolve))
    server.listen(0, '127.0.0.1')
    await listening
    await server.#stop(0)
  }
}
