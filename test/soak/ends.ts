import type { End } from './soak-node.ts'

/** How the nodes ended, one after the other: what their drains took, and that no tool ran twice which may not. */
export class Ends {
  readonly #onWrong: (what: string) => void
  readonly #spare: number
  readonly #drains: End[] = []
  readonly #begun = new Set<string>()
  #kills = 0

  /** `spare`: milliseconds that a drain may take beyond the longest call that ran meanwhile. */
  constructor(spare: number, onWrong: (what: string) => void) {
    this.#spare = spare
    this.#onWrong = onWrong
  }

  /** Of a node that ended by SIGTERM. */
  drained(end: End): void {
    this.#drains.push(end)
    if (end.code !== 0) this.#onWrong(`a node ended with exit code ${end.code}`)
    if (beyond(end) > this.#spare) this.#onWrong(`a drain took ${facts(end)}`)
    this.look(end)
  }

  /** Of a node that ended by SIGKILL. */
  killed(end: End): void {
    this.#kills += 1
    this.look(end)
  }

  report(): string[] {
    const worst = (by: (end: End) => number) => this.#drains.reduce((a, b) => (by(b) > by(a) ? b : a))
    if (this.#drains.length === 0) return [`${this.#kills} kills, no drain`]
    return [
      `${this.#kills} kills, ${this.#drains.length} drains: half of them within ${median(this.#drains.map(({ took }) => took)).toFixed(0)} ms`,
      `the longest drain took ${facts(worst((end) => end.took))}`,
      `the one that was longest beyond its calls took ${facts(worst(beyond))}`,
      `beyond its calls: half of them ${median(this.#drains.map(beyond)).toFixed(0)} ms, and all below 1 s but ${this.#drains.filter((end) => beyond(end) > 1000).length}`,
    ]
  }

  /** What its tools did; of a node that ended in any way. */
  look({ deeds }: End): void {
    for (const { what, tool, tag } of deeds) {
      // The other tools that note their start say that they may be run again.
      if (what !== 'start' || tool !== 'slow') continue
      if (this.#begun.has(String(tag))) this.#onWrong(`${tag} was run twice`)
      this.#begun.add(String(tag))
    }
  }
}

function beyond({ took, longestCall }: End): number {
  return took - longestCall
}

function median(some: readonly number[]): number {
  return [...some].sort((a, b) => a - b)[some.length >> 1]!
}

function facts({ took, longestCall }: End): string {
  return `${took.toFixed(0)} ms, and the last of its calls ${longestCall.toFixed(0)} ms`
}
