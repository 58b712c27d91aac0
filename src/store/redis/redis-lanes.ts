import { PersistError } from '../../errors.ts'
import { GroupCommit, MAX_WAITING_BYTES, type Outcome } from '../common/group-commit.ts'
import type { Append, Appended } from '../port.ts'
import { hash } from './redis-keys.ts'

interface Lane {
  readonly group: GroupCommit<Append, Appended>
  appends: number
}

type Flush = (appends: readonly Append[]) => Promise<readonly Outcome<Appended>[]>

/**
 * Group commit in lanes: a session always takes the same one, which keeps its appends in order, and a batch waits only for
 * the one before it in its lane.
 *
 * On a single server two: while Redis works on the batch of one, we make up and take apart those of the other. In a
 * cluster one for each session that has something under way, so that a master that is away holds up its own sessions only.
 */
export class RedisLanes {
  readonly #lanes = new Map<string | number, Lane>()
  readonly #flush: Flush
  readonly #cluster: boolean
  readonly #maxWaiting: number
  #waiting = 0
  #bytes = 0

  constructor(flush: Flush, { cluster, maxWaiting }: { cluster: boolean; maxWaiting: number }) {
    this.#flush = flush
    this.#cluster = cluster
    this.#maxWaiting = maxWaiting
  }

  add(append: Append): Promise<Appended> {
    const size = sizeOf(append)
    // Of all lanes together: in a cluster there is one for each session.
    const isFull = this.#waiting >= this.#maxWaiting
    if (isFull || (this.#bytes > 0 && this.#bytes + size > MAX_WAITING_BYTES)) {
      const facts = `${this.#waiting} appends of ${this.#bytes} bytes are waiting for Redis`
      return Promise.reject(
        new PersistError('OVERLOADED', `${facts}, which is the limit; it does not keep up.`),
      )
    }
    const name = this.#cluster ? append.sessionId : hash(append.sessionId) % 2
    const lane = this.#lanes.get(name) ?? this.#open(name)
    this.#waiting += 1
    this.#bytes += size
    lane.appends += 1
    return lane.group.add(append)
  }

  /** Resolves when everything added so far has settled. */
  async settled(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map(({ group }) => group.settled()))
  }

  #open(name: string | number): Lane {
    const onSettled = (append: Append) => {
      this.#waiting -= 1
      this.#bytes -= sizeOf(append)
      lane.appends -= 1
      if (lane.appends === 0) this.#lanes.delete(name)
    }
    // What may wait is bounded above, over all lanes.
    const bounds = { maxWaiting: Number.POSITIVE_INFINITY, maxBytes: Number.POSITIVE_INFINITY }
    const group = new GroupCommit<Append, Appended>(this.#flush, { ...bounds, sizeOf, onSettled })
    const lane: Lane = { group, appends: 0 }
    this.#lanes.set(name, lane)
    return lane
  }
}

/** About its bytes: what is outside of ASCII takes more of them than it has characters. */
function sizeOf({ events }: Append): number {
  let size = 0
  for (const { payload } of events) size += payload.length
  return size
}
