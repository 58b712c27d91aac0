import type { Violations } from '../invariants/violations.ts'
import type { Time } from '../time.ts'
import type { World } from '../world.ts'
import type { SimulatedClient } from './client.ts'
import { Heard } from './heard.ts'

const STANDALONE = '_GET_stream'

/** A client that listens on the standalone stream, and comes back whenever it ends. */
export class Listening {
  readonly #client: SimulatedClient
  readonly #violations: Violations
  readonly #time: Time
  readonly #heard: Heard
  /** The second connection does not say where the first one stands. */
  readonly #asFirst: boolean
  #over = false
  /** The second connection, as long as it is open. */
  #another: Promise<unknown> | undefined
  #hangUp: (() => void) | undefined

  constructor(client: SimulatedClient, violations: Violations, time: Time, asFirst: boolean) {
    this.#asFirst = asFirst
    this.#client = client
    this.#violations = violations
    this.#time = time
    this.#heard = new Heard(`${client.process.name} standalone`, violations)
  }

  async run(pause: () => Promise<void>): Promise<void> {
    while (!this.#over && !this.#client.gone) {
      await this.#client.listen(this.#heard, undefined, undefined, (hangUp) => {
        this.#hangUp = hangUp
      })
      if (!this.#over) await pause()
      // With an id it would ask for what the other one gets meanwhile.
      await this.#another
    }
  }

  /** A second connection: the first one ends, and nothing comes on both. */
  async openAnother(): Promise<void> {
    if (!this.#asFirst) return
    const listen = () =>
      this.#client.listen(this.#heard, undefined, undefined, (hangUp) => {
        this.#time.after(400, hangUp)
      })
    this.#another = this.#heard.asFirst(listen)
    await this.#another
    this.#another = undefined
  }

  /** All that the log has of the stream is heard, soon. */
  async check({ server, faults, writes }: World): Promise<void> {
    const { session } = this.#client
    const began = this.#time.now
    await this.#client.insist('everything on the standalone stream', async () => {
      if (this.#client.gone || writes.forgotten.length > 0) return true
      const page = await server.memory.log.read({
        sessionId: session!,
        streamId: STANDALONE,
        after: 0,
        limit: 1000,
      })
      const stored = page.events.length
      if (this.#heard.count >= stored) return true
      if (faults.calm && this.#time.now - Math.max(began, faults.last) > 10_000) {
        this.#violations.add(
          'complete',
          `${this.#client.process.name} heard ${this.#heard.count} of ${stored} standalone events`,
        )
        return true
      }
      return false
    })
  }

  stop(): void {
    this.#over = true
    this.#hangUp?.()
  }
}
