import { monotonicNow } from '../../clock.ts'
import type { SessionRequest } from '../live/handling.ts'

/** Milliseconds that an owner is believed to be one since it has last answered. */
const BELIEVED = 3000
const MAX_KNOWN = 10_000

type Asked = Pick<SessionRequest, 'sessionId' | 'endpoint'>

/**
 * Which node has answered for a session a moment ago, so that the store is not asked again. It need not be right: an owner looks
 * itself whether a session is its own and the caller's, and says "moved" where it is not; of one that is gone the exchange tells.
 * Whether it is a session of the endpoint, an owner is not asked: so it is known for the endpoint where it was found.
 */
export class KnownOwners {
  readonly #owners = new Map<string, { readonly nodeId: string; readonly until: number }>()

  get(asked: Asked): string | undefined {
    const known = this.#owners.get(keyOf(asked))
    return known && monotonicNow() < known.until ? known.nodeId : undefined
  }

  answered(asked: Asked, nodeId: string): void {
    const key = keyOf(asked)
    // Whoever has been silent for longest goes first.
    this.#owners.delete(key)
    if (this.#owners.size >= MAX_KNOWN) this.#owners.delete(this.#owners.keys().next().value!)
    this.#owners.set(key, { nodeId, until: monotonicNow() + BELIEVED })
  }

  forget(asked: Asked): void {
    this.#owners.delete(keyOf(asked))
  }
}

/** No id has a space in it. */
function keyOf({ sessionId, endpoint = '' }: Asked): string {
  return `${sessionId} ${endpoint}`
}
