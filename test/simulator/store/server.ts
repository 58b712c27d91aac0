import type { Outcome } from '../../../src/store/common/group-commit.ts'
import type {
  Append,
  Appended,
  SessionClaim,
  SessionToCreate,
  SessionTouch,
} from '../../../src/store/port.ts'
import type { Writes } from '../invariants/writes.ts'
import type { Source } from '../load-source.ts'
import { Random } from '../random.ts'
import { Process, type Time } from '../time.ts'

type Memory = InstanceType<Source['MemoryEventStore']>

/** The store's server: the memory backend, in a process of its own, whose clock is the one that leases go by. */
export class StoreServer {
  readonly process: Process
  readonly #source: Source
  readonly #time: Time
  readonly #writes: Writes
  readonly #seed: number
  #memory: Memory
  /** Every change with its moment, where the store may have to forget the last of them. */
  readonly #journal: Change[] | undefined
  /** Changes until now, those among them that were lost. */
  #changes = 0
  /** The moment that the memory store takes for now. */
  #replaying: number | undefined
  /** Operations asked of it, by their names. */
  readonly counts = new Map<string, number>()
  /** Nodes that have signed off. */
  readonly #left = new Set<string>()
  /** A session was taken from a node whose lease is over. */
  onLapsed: () => void = () => {}
  /** Connections that hear something, to be told when it restarts. */
  readonly onRestart = new Set<() => void>()

  constructor(source: Source, time: Time, writes: Writes, seed: number, journal: boolean) {
    this.process = new Process('store', new Random(seed))
    this.#seed = seed
    this.#source = source
    this.#time = time
    this.#writes = writes
    this.#journal = journal ? [] : undefined
    this.#memory = this.#open()
  }

  get memory(): Memory {
    return this.#memory
  }

  count(operation: string): void {
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1)
  }

  /** Appends of one batch, in order; each fails alone. */
  async append(batch: readonly Append[], by: string): Promise<readonly Outcome<Appended>[]> {
    const outcomes: Outcome<Appended>[] = []
    for (const append of batch) {
      try {
        const ok = await this.#change((memory) => memory.log.append(append))
        this.#writes.appended(append, ok, by)
        outcomes.push({ ok })
      } catch (error) {
        outcomes.push({ error })
      }
    }
    return outcomes
  }

  delete(sessionId: string) {
    return this.#change((memory) => memory.log.delete(sessionId))
  }

  async create(session: SessionToCreate) {
    const generation = await this.#change((memory) => memory.sessions.create(session))
    this.#writes.claimed(session.id, generation)
    return generation
  }

  async claim(id: string, claim: SessionClaim) {
    const before = await this.memory.sessions.get(id)
    const claimed = await this.#change((memory) => memory.sessions.claim(id, claim))
    // Of a node that lives, perhaps: renewals that fail or are slow let a lease run out.
    const { owner, ownerAlive } = before ?? { owner: null, ownerAlive: true }
    if (claimed && owner !== null && owner !== claim.owner && !ownerAlive && !this.#left.has(owner)) {
      this.onLapsed()
    }
    if (claimed) this.#writes.claimed(id, claimed.generation)
    return claimed
  }

  release(id: string, generation: number) {
    return this.#change((memory) => memory.sessions.release(id, generation))
  }

  update(...args: Parameters<Memory['sessions']['update']>) {
    return this.#change((memory) => memory.sessions.update(...args))
  }

  async touch(touches: readonly SessionTouch[]) {
    for (const { id, ttl } of touches) {
      // What has expired stays so, whoever touches it.
      if (ttl !== undefined && (await this.memory.sessions.get(id))) this.#writes.touched(id)
    }
    return this.#change((memory) => memory.sessions.touch(touches))
  }

  terminate(id: string) {
    return this.#change((memory) => memory.sessions.terminate(id))
  }

  register(...args: Parameters<Memory['nodes']['register']>) {
    return this.#change((memory) => memory.nodes.register(...args))
  }

  renew(id: string, lease: number) {
    return this.#change((memory) => memory.nodes.renew(id, lease))
  }

  unregister(id: string) {
    this.#left.add(id)
    return this.#change((memory) => memory.nodes.unregister(id))
  }

  async sweep(limit: number): Promise<boolean> {
    return (await this.#change((memory) => memory.sweep({ limit }))).more
  }

  /** It is killed and starts again from what it had `ms` ago. */
  async restartWithout(ms: number): Promise<void> {
    const until = this.#time.now - ms
    const journal = this.#journal!
    const kept = journal.findIndex(({ at }) => at > until)
    const changes = kept === -1 ? journal : journal.slice(0, kept)
    journal.length = changes.length
    this.#memory = this.#open()
    for (const change of changes) {
      this.#replaying = change.at
      await this.#make(change).catch(() => {})
    }
    this.#replaying = undefined
    this.#writes.lost(this.#time.now, until)
    for (const restarted of this.onRestart) restarted()
  }

  #open(): Memory {
    return new this.#source.MemoryEventStore({
      clock: { now: () => EPOCH + (this.#replaying ?? this.#time.now) },
    })
  }

  #change<T>(work: (memory: Memory) => Promise<T>): Promise<T> {
    if (!this.#journal) return work(this.#memory)
    this.#changes += 1
    const change = { at: this.#time.now, seed: this.#seed + this.#changes, work }
    this.#journal.push(change)
    return this.#make(change)
  }

  #make<T>({ seed, work }: Change<T>): Promise<T> {
    this.process.random = new Random(seed)
    return work(this.#memory)
  }
}

interface Change<T = unknown> {
  readonly at: number
  /** Of what it draws, the same whenever it is made again: ids and generations stay what they were. */
  readonly seed: number
  readonly work: (memory: Memory) => Promise<T>
}

const EPOCH = 1_700_000_000_000
