/** What a tool does, one step after the other; its client writes it down in the call's arguments. */
export type Step =
  | { readonly wait: number }
  /** Tells the client so many things on the stream of the call. */
  | { readonly notify: number }
  /** Says something on the standalone stream. */
  | { readonly announce: true }
  | { readonly ask: 'here' | 'aside'; readonly question: string }
  | { readonly cut: true }
  | { readonly cutStandalone: true }
  | { readonly end: 'throw' | 'break' | 'never' | 'kill' }

/** One run of a call's tool, as the app knows it. */
export interface Run {
  readonly number: number
  readonly process: string
  /** What it has told on the stream of its call. */
  told: number
  answered: boolean
  readonly began: number
  ended: number | undefined
  /** Its process died: the call is open in the log, which keeps it until somebody has settled it. */
  killed?: true
  /** When its end could be known. */
  over: number | undefined
}

/** The truth about one call: what its client asked, and what any app did. It outlives processes, as a database would. */
export interface Called {
  readonly name: string
  readonly repeatable: boolean
  readonly steps: readonly Step[]
  readonly runs: Run[]
  /** When its client asked for it. */
  readonly asked: number
  /** When its client had an answer, or made another call in its place. */
  over?: number
  cancelled: boolean
  /** When its client had an answer that the store had as well. */
  answered?: number
}

export class Ledger {
  readonly calls = new Map<string, Called>()
  /** Runs that go on at the moment, by process. */
  readonly running = new Map<Run, { readonly process: string; readonly call: Called }>()
  /** When a node was killed, lost its lease (and with it a session) or its way to the store. */
  readonly harms: number[] = []
  #runs = 0
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  call(name: string, steps: readonly Step[], repeatable: boolean): Called {
    const called: Called = { name, repeatable, steps, runs: [], asked: this.#now(), cancelled: false }
    this.calls.set(name, called)
    return called
  }

  /** Its client does not wait for it any more. */
  left(name: string): void {
    const called = this.calls.get(name)
    if (called) called.over ??= this.#now()
  }

  begin(name: string, process: string): Run {
    this.#runs += 1
    const run: Run = {
      number: this.#runs,
      process,
      told: 0,
      answered: false,
      began: this.#now(),
      ended: undefined,
      over: undefined,
    }
    const call = this.calls.get(name)!
    call.runs.push(run)
    this.running.set(run, { process, call })
    return run
  }

  /** `noticed`: milliseconds after which it can be known. */
  over(run: Run, noticed = 0): void {
    run.ended = this.#now()
    run.over = run.ended + noticed
    this.running.delete(run)
  }

  /** Everything that runs in that process is over. */
  kill(process: string): void {
    for (const [run, { process: of }] of this.running) {
      if (of !== process) continue
      run.killed = true
      this.over(run)
    }
  }

  /**
   * When the last of the calls that had been asked for at that moment was over: a node waits for those of its own clients
   * too, and for one that an owner took with it until the next owner has run it.
   */
  ended(moment: number): number {
    let last = moment
    for (const { asked, over, runs } of this.calls.values()) {
      if (asked > moment) continue
      if (runs.length === 0) last = Math.max(last, over ?? this.#now())
      for (const run of runs) last = Math.max(last, run.over ?? this.#now())
    }
    return last
  }
}
