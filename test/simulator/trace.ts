import type { Time } from './time.ts'

/** Who said what to whom, line by line. */
export class Trace {
  readonly lines: string[] = []
  readonly on: boolean
  readonly #time: Time

  constructor(time: Time, on: boolean) {
    this.#time = time
    this.on = on
  }

  say(who: string, what: string): void {
    if (this.on) this.lines.push(`${this.#time.now.toFixed(2).padStart(10)} ${who.padEnd(10)} ${what}`)
  }
}
