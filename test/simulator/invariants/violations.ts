/** What the simulator promises to notice, each with a checker of its own. */
export type Invariant =
  /** Every request ends: with its answer, with the error that says the truth, or with a connection that can be resumed. */
  | 'ends'
  /** An error or a status says the truth. */
  | 'truth'
  /** A status that says "try again" means that nothing was done. */
  | 'retry'
  /** A stream's events arrive complete, in order, once. */
  | 'complete'
  | 'order'
  | 'once'
  /** What must not be repeated runs once, and nothing takes more than two nodes with it. */
  | 'runs'
  /** At most one owner's writes are accepted, and positions are never given out twice. */
  | 'writes'
  /** A session that nobody uses is gone from store and memory a ttl later. */
  | 'expires'
  /** Nothing is left after close. */
  | 'leftovers'
  /** A drain ends within the longest call that runs plus a second. */
  | 'drains'
  /** A drain takes its whole deadline only while some call does. */
  | 'deadline'
  /** An instance knows what its client has told the session. */
  | 'state'
  /** A session is served to whom it belongs, and to nobody else. */
  | 'private'
  /** The engine threw where nobody caught it, or answered 500. */
  | 'throws'

export interface Violation {
  readonly invariant: Invariant
  readonly message: string
  readonly at: number
}

export class Violations {
  readonly list: Violation[] = []
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  add(invariant: Invariant, message: string): void {
    this.list.push({ invariant, message, at: this.#now() })
  }
}
