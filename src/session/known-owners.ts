import { monotonicNow } from '../clock.ts'

/** Milliseconds that an owner is believed to be one since it has last answered. */
const BELIEVED = 3000
const MAX_KNOWN = 10_000

/**
 * Which node has answered for a session a moment ago, so that the store is not asked again. It need not be right: an owner looks
 * itself whether a session is its own and the caller's, and says "moved" where it is not; of one that is gone the exchange tells.
 */
export class KnownOwners {
  readonly #owners = new Map<string, { readonly nodeId: string; readonly until: number }>()

  get(sessionId: string): string | undefined {
    const known = this.#owners.get(sessionId)
    return known && monotonicNow() < known.until ? known.nodeId : undefined
  }

  answered(sessionId: string, nodeId: string): void {
    // Whoever has been silent for longest goes first.
    this.#owners.delete(sessionId)
    if (this.#owners.size >= MAX_KNOWN) this.#owners.delete(this.#owners.keys().next().value!)
    this.#owners.set(sessionId, { nodeId, until: monotonicNow() + BELIEVED })
  }

  forget(sessionId: string): void {
    this.#owners.delete(sessionId)
  }
}
