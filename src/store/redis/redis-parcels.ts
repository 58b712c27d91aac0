import { READS, type RedisConnection } from './redis-connection.ts'

/** Parcels that may wait to be fetched; what is beyond is lost, as any message may be. */
const MAX_WAITING = 1_000

/**
 * Fetches parcels, one after another: so no more than one lies in memory that its receivers have not had. It is
 * taken by whoever fetches it first, once for all receivers of this process.
 */
export class RedisParcels {
  readonly #connection: RedisConnection
  readonly #fetching = new Map<string, Promise<Uint8Array | undefined>>()
  #last: Promise<unknown> = Promise.resolve()

  constructor(connection: RedisConnection) {
    this.#connection = connection
  }

  /** Undefined: it is gone, or cannot be had. Never rejects. */
  fetch(key: string): Promise<Uint8Array | undefined> {
    const known = this.#fetching.get(key)
    if (known) return known
    if (this.#fetching.size >= MAX_WAITING) return Promise.resolve(undefined)
    const fetched = this.#last.then(() => this.#take(key)).finally(() => this.#fetching.delete(key))
    this.#fetching.set(key, fetched)
    this.#last = fetched
    return fetched
  }

  async #take(key: string): Promise<Uint8Array | undefined> {
    // Not repeated: when the answer is lost, so is the parcel.
    const options = { ...READS, repeatable: false }
    const take = this.#connection.run((client) => client.callBuffer('getdel', key), options)
    return ((await take.catch(() => null)) as Buffer | null) ?? undefined
  }
}
