import { type Bus, nodeChannel, type SessionClaim, type SessionTable } from '../port.ts'

/** What a node hears when somebody else has terminated a session that it holds. */
export interface Terminated {
  readonly terminated: string
}

/**
 * A session table whose `terminate` tells the owner, so that the session's open streams end at once wherever they are
 * served. Without the word they would end with the owner's next look at what it holds.
 */
export class AnnouncedSessions implements SessionTable {
  readonly #sessions: SessionTable
  readonly #bus: Bus

  constructor(sessions: SessionTable, bus: Bus) {
    this.#sessions = sessions
    this.#bus = bus
  }

  /** Whoever holds it knows it already. */
  async terminate(id: string, generation?: number): Promise<boolean> {
    if (generation !== undefined) return this.#sessions.terminate(id, generation)
    const owner = (await this.#sessions.get(id))?.owner
    const terminated = await this.#sessions.terminate(id)
    if (terminated && owner) {
      const text = JSON.stringify({ terminated: id } satisfies Terminated)
      // The tombstone stands whether or not the word gets through.
      await this.#bus.publish(nodeChannel(owner), text).catch(() => {})
    }
    return terminated
  }

  create(session: Parameters<SessionTable['create']>[0]) {
    return this.#sessions.create(session)
  }

  get(id: string) {
    return this.#sessions.get(id)
  }

  claim(id: string, claim: SessionClaim) {
    return this.#sessions.claim(id, claim)
  }

  release(id: string, generation: number) {
    return this.#sessions.release(id, generation)
  }

  update(...given: Parameters<SessionTable['update']>) {
    return this.#sessions.update(...given)
  }

  touch(touches: Parameters<SessionTable['touch']>[0]) {
    return this.#sessions.touch(touches)
  }

  list(query?: Parameters<SessionTable['list']>[0]) {
    return this.#sessions.list(query)
  }
}
