import type { Random } from './random.ts'

/**
 * Time that jumps to the next thing to do. Everything that happens is an entry of one queue, by its moment and then in the
 * order in which it was asked for, and belongs to a process: between two entries all promises settle, so that code that
 * awaits runs on in the turn of its own process, and there is never a doubt about whose turn it is.
 */
export class Time {
  /** Milliseconds since the world began. */
  now = 0
  /** Entries taken until now. */
  turns = 0
  #current: Process
  readonly #queue: Entry[] = []
  #asked = 0

  constructor(first: Process) {
    this.#current = first
  }

  /** Whose turn it is. */
  get current(): Process {
    return this.#current
  }

  /** Takes a turn of `process` in `ms`; in the turn of whoever asks the process of others is named. */
  after(ms: number, work: () => void, process = this.#current, timer = false): Entry {
    const at = this.now + Math.max(0, ms)
    const entry = new Entry(at, this.#asked++, process, work, timer)
    if (timer) process.timers.add(entry)
    this.#push(entry)
    return entry
  }

  /** A wait in the turn of the process that waits. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve))
  }

  /** Does something in the name of `process`, now. */
  within<T>(process: Process, work: () => T): T {
    const before = this.#current
    this.#current = process
    try {
      return work()
    } finally {
      this.#current = before
    }
  }

  /** SIGCONT: what came meanwhile is dealt with now, timers first, as a real event loop does. */
  resume(process: Process): void {
    if (!process.stopped) return
    process.stopped = false
    const held = process.held.splice(0)
    for (const entry of [...held.filter((each) => each.timer), ...held.filter((each) => !each.timer)]) {
      entry.at = this.now
      entry.order = this.#asked++
      this.#push(entry)
    }
  }

  /** Runs until `work` has settled; rejects when nothing is left to do, or when it takes longer than `limit` ms. */
  run<T>(work: () => Promise<T>, limit: number): Promise<T> {
    return new Promise((resolve, reject) => {
      let over = false
      const end = (settle: () => void) => {
        over = true
        settle()
      }
      this.after(0, () => {
        work().then(
          (value) => end(() => resolve(value)),
          (error) => end(() => reject(error)),
        )
      })
      const turn = () => {
        if (over) return
        const entry = this.#pop()
        if (!entry) return end(() => reject(new Error('Nothing is left to do, and it is not over.')))
        if (entry.at > limit) return end(() => reject(new Error(`It was not over after ${limit} ms.`)))
        this.#take(entry)
        setImmediate(turn)
      }
      // Promises settle between two immediates. Many of them in one round of the real event loop save its own cost.
      for (let i = 0; i < ROUND; i += 1) setImmediate(turn)
    })
  }

  #take(entry: Entry): void {
    const { process, work } = entry
    if (entry.cancelled || !process.alive) return
    this.now = entry.at
    if (process.stopped) return void process.held.push(entry)
    if (entry.timer) process.timers.delete(entry)
    this.turns += 1
    this.#current = process
    work()
  }

  #push(entry: Entry): void {
    const queue = this.#queue
    let i = queue.push(entry) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!entry.before(queue[parent]!)) break
      queue[i] = queue[parent]!
      i = parent
    }
    queue[i] = entry
  }

  #pop(): Entry | undefined {
    const queue = this.#queue
    const first = queue[0]
    const last = queue.pop()
    if (!first || queue.length === 0) return first
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= queue.length) break
      if (child + 1 < queue.length && queue[child + 1]!.before(queue[child]!)) child += 1
      if (!queue[child]!.before(last!)) break
      queue[i] = queue[child]!
      i = child
    }
    queue[i] = last!
    return first
  }
}

const ROUND = 64

/** Something that will happen; also what `setTimeout` returns inside a world. */
export class Entry {
  at: number
  order: number
  readonly process: Process
  readonly work: () => void
  readonly timer: boolean
  cancelled = false

  constructor(at: number, order: number, process: Process, work: () => void, timer: boolean) {
    this.at = at
    this.order = order
    this.process = process
    this.work = work
    this.timer = timer
  }

  before(other: Entry): boolean {
    return this.at < other.at || (this.at === other.at && this.order < other.order)
  }

  cancel(): void {
    this.cancelled = true
    if (this.timer) this.process.timers.delete(this)
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

/** A process of the world: a node, a client, the server of the store. It has clocks of its own. */
export class Process {
  readonly name: string
  alive = true
  /** SIGSTOP: its turns wait. */
  stopped = false
  /** What came while it was stopped. */
  readonly held: Entry[] = []
  /** Its own timers that are still to run. */
  readonly timers = new Set<Entry>()
  /** How fast its clocks go, and how far they are from those of the world. */
  readonly rate: number
  readonly ahead: number
  /** What it takes for random. */
  random: Random

  constructor(name: string, random: Random, { rate = 1, ahead = 0 } = {}) {
    this.name = name
    this.random = random
    this.rate = rate
    this.ahead = ahead
  }
}
