import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Append, Appended } from '../../../src/store/port.ts'
import type { Violations } from './violations.ts'

interface Written {
  generation: number
  last: number
  /** When anything of it reached the store last. */
  used: number
  epoch: string
  /** Which process wrote in which generation. */
  readonly writers: Map<number, string>
}

/** At most one owner's writes are accepted; positions grow and are never given out twice. Looked at in the store itself. */
export class Writes {
  readonly #violations: Violations
  readonly #now: () => number
  readonly #sessions = new Map<string, Written>()
  readonly #runs = new Map<string, number>()
  /** Writes that the store lost in a restart, by the moments between which they were made. */
  readonly forgotten: { readonly from: number; readonly to: number }[] = []

  constructor(violations: Violations, now: () => number) {
    this.#violations = violations
    this.#now = now
  }

  claimed(id: string, generation: number): void {
    const written = this.#of(id)
    if (generation < written.generation) {
      this.#violations.add(
        'writes',
        `session ${id} went back from generation ${written.generation} to ${generation}`,
      )
    }
    written.generation = generation
  }

  appended(append: Append, { positions, epoch }: Appended, by: string): void {
    const { sessionId, generation, touch, events } = append
    for (const { kind, payload } of events) if (kind === 'open') this.#opened(payload)
    const written = this.#of(sessionId)
    if (generation !== undefined) {
      if (generation < written.generation) {
        this.#violations.add('writes', `${by} wrote to ${sessionId} in a generation that is over`)
      }
      const writer = written.writers.get(generation)
      if (writer !== undefined && writer !== by) {
        this.#violations.add('writes', `${writer} and ${by} wrote to ${sessionId} in one generation`)
      }
      written.writers.set(generation, by)
    }
    if (written.epoch !== epoch) {
      written.epoch = epoch
      written.last = 0
    }
    if (touch !== false) written.used = this.#now()
    for (const position of positions) {
      if (position <= written.last) {
        this.#violations.add(
          'writes',
          `position ${position} of ${sessionId} was given out after ${written.last}`,
        )
      }
      written.last = position
    }
  }

  /** How often a call was begun, as the store knows. */
  runsOf(name: string): number {
    return this.#runs.get(name) ?? 0
  }

  #opened(payload: string): void {
    for (const { params } of [JSON.parse(payload)].flat() as Message[]) {
      const name = (params?.['arguments'] as { name: string } | undefined)?.name
      if (name !== undefined) this.#runs.set(name, this.runsOf(name) + 1)
    }
  }

  touched(id: string): void {
    this.#of(id).used = this.#now()
  }

  /** When a use of the session reached the store last. */
  usedAt(id: string): number {
    return this.#of(id).used
  }

  /** The store has lost what was written between two moments: the generations of that time are gone. */
  lost(now: number, from: number): void {
    this.forgotten.push({ from, to: now })
    for (const written of this.#sessions.values()) written.generation = 0
  }

  /** Is anything lost that was written between two moments? */
  isForgotten(from: number, to: number): boolean {
    return this.forgotten.some((lost) => lost.from < to && from < lost.to)
  }

  #of(id: string): Written {
    let written = this.#sessions.get(id)
    if (!written) {
      written = { generation: 0, last: 0, used: this.#now(), epoch: '', writers: new Map() }
      this.#sessions.set(id, written)
    }
    return written
  }
}
