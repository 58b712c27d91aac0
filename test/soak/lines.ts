export interface Rules {
  /** They come on the standalone stream, perhaps after the call's answer. */
  readonly late: boolean
  /** The call may be run again, from its first line. */
  readonly again: boolean
}

interface Expected extends Rules {
  readonly count: number
  readonly came: number[]
  /** Undefined: the call still runs. */
  end?: 'answered' | 'interrupted'
}

// Milliseconds.
/** A line is remembered so long after its call, to notice a second one. */
const MEMORY = 60_000
/** A line on the standalone stream may come so long after its call's answer; while its client waits, and opens no other. */
const ARRIVAL = 20_000

/** The log lines of a client's calls, `<tag>:<number>` from 1 up: what came, in which order, and what is still to come. */
export class Lines {
  readonly #expected = new Map<string, Expected>()
  readonly #onWrong: (what: string) => void

  constructor(onWrong: (what: string) => void) {
    this.#onWrong = onWrong
  }

  /** Called before the call that will send lines 1 to `count`. */
  expect(tag: string, count: number, rules: Rules): void {
    this.#expected.set(tag, { ...rules, count, came: [] })
  }

  came(line: string): void {
    const [tag, number] = [
      line.slice(0, line.lastIndexOf(':')),
      Number(line.slice(line.lastIndexOf(':') + 1)),
    ]
    const expected = this.#expected.get(tag)
    if (!expected) {
      this.#onWrong(`the line ${line} came to a client that did not ask for it, or again`)
      return
    }
    const last = expected.came.at(-1) ?? 0
    expected.came.push(number)
    if (number === last + 1 || (expected.again && number === 1)) return
    this.#onWrong(`the line ${line} came after line ${last}`)
  }

  /** All of them must be here; those on the standalone stream may take a moment. */
  answered(tag: string): void {
    const expected = this.#end(tag, 'answered')
    const look = () => {
      if (!isWhole(expected)) this.#onWrong(`${tag} was answered, and lacks ${facts(expected)}`)
    }
    if (expected.late) setTimeout(look, ARRIVAL).unref()
    else look()
  }

  /** Some of them may be here. */
  interrupted(tag: string): void {
    this.#end(tag, 'interrupted')
  }

  /** Is everything here that must come? */
  get settled(): boolean {
    return this.missing().length === 0
  }

  missing(): string[] {
    return [...this.#expected]
      .filter(([, expected]) => expected.late && expected.end === 'answered' && !isWhole(expected))
      .map(([tag, expected]) => `${tag}: ${facts(expected)}`)
  }

  #end(tag: string, end: 'answered' | 'interrupted'): Expected {
    const expected = this.#expected.get(tag)!
    expected.end = end
    setTimeout(() => {
      if (isWhole(expected) || end === 'interrupted') this.#expected.delete(tag)
    }, MEMORY).unref()
    return expected
  }
}

function isWhole({ count, came }: Expected): boolean {
  return (came.at(-1) ?? 0) === count
}

function facts({ count, came }: Expected): string {
  return `lines after ${came.at(-1) ?? 0} of ${count}`
}
