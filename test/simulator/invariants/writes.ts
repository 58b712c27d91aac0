import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Append, Appended } from '../../../src/store/port.ts'
import type { Violations } from './violations.ts'

interface Written {
  generation: number
  /** The last position of each generation. */
  lasts: Map<number, number>
  given: Set<number>
  /** When anything of it reached the store last. */
  used: number
  epoch: string
  /** Which process wrote in which generation. */
  readonly writers: Map<number, string>
}

/** That a call begins, as the store has it. */
interface Begun {
  readonly by: string
  readonly at: number
}

/** At most one owner's writes are accepted; positions grow and are never given out twice. Looked at in the store itself. */
export class Writes {
  readonly #violations: Violations
  readonly #now: () => number
  readonly #sessions = new Map<string, Written>()
  readonly #records = new Map<string, Begun[]>()
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
    for (const { kind, payload } of events) if (kind === 'open') this.#opened(payload, by)
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
      written.lasts = new Map()
      written.given = new Set()
    }
    if (touch !== false) written.used = this.#now()
    const { lasts, given } = written
    for (const position of positions) {
      // Where the store has lost a claim, the owner before goes on where it was, below what the other one has given out.
      const before = Math.max(0, ...[...lasts].map(([each, last]) => (each <= generation! ? last : 0)))
      if (position <= before || given.has(position))
        this.#violations.add('writes', `position ${position} of ${sessionId} was given out after ${before}`)
      lasts.set(generation!, position)
      given.add(position)
    }
  }

  /** The times that a call was begun. */
  records(name: string): readonly Begun[] {
    return this.#records.get(name) ?? []
  }

  #opened(payload: string, by: string): void {
    for (const { params } of [JSON.parse(payload)].flat() as Message[]) {
      const name = (params?.['arguments'] as { name: string } | undefined)?.name
      if (name !== undefined) this.#records.set(name, [...this.records(name), { by, at: this.#now() }])
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
      written = {
        generation: 0,
        lasts: new Map(),
        given: new Set(),
        used: this.#now(),
        epoch: '',
        writers: new Map(),
      }
      this.#sessions.set(id, written)
    }
    return written
  }
}
