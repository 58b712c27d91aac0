import { READS, type RedisConnection } from './redis-connection.ts'

/** Parcels of one node that may wait to be fetched; what is beyond is lost, as any message may be. */
const MAX_WAITING = 1_000

/**
 * Fetches the parcels of a node, one at a time: so no more than one lies in memory that the receiver has not had. It
 * is taken by whoever fetches it first; whoever finds it gone, or cannot fetch it, is told that something was missed.
 */
export class Parcels {
  readonly #connection: RedisConnection
  readonly #keyOf: (name: string) => string
  readonly #onMessage: (message: Uint8Array | undefined) => void
  readonly #waiting: string[] = []
  #fetching = false

  constructor(
    connection: RedisConnection,
    keyOf: (name: string) => string,
    onMessage: (message: Uint8Array | undefined) => void,
  ) {
    this.#connection = connection
    this.#keyOf = keyOf
    this.#onMessage = onMessage
  }

  fetch(name: string): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(name)
    else this.#onMessage(undefined)
    if (!this.#fetching) void this.#run()
  }

  async #run(): Promise<void> {
    this.#fetching = true
    try {
      for (let name = this.#waiting.shift(); name !== undefined; name = this.#waiting.shift()) {
        this.#onMessage(await this.#take(this.#keyOf(name)))
      }
    } finally {
      this.#fetching = false
    }
  }

  async #take(key: string): Promise<Uint8Array | undefined> {
    // Not repeated: when the answer is lost, so is the parcel.
    const take = this.#connection.run((client) => client.callBuffer('getdel', key), {
      ...READS,
      repeatable: false,
    })
    return ((await take.catch(() => null)) as Buffer | null) ?? undefined
  }
}
