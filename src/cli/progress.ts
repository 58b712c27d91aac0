/** How often the line is drawn again, in ms. */
const EVERY = 100

/** One line on stderr that is written over and over, where stderr is a terminal; nothing elsewhere. */
export class Progress {
  readonly #shown = process.stderr.isTTY === true
  #last = 0

  update(text: () => string): void {
    if (!this.#shown || performance.now() - this.#last < EVERY) return
    this.#last = performance.now()
    process.stderr.write(`\r\u001b[K${text()}`)
  }

  /** A bar of 24 characters; without a total, none. */
  static bar(done: number, total: number): string {
    if (!(total > 0)) return ''
    const filled = Math.min(24, Math.floor((done / total) * 24))
    return `[${'='.repeat(filled)}${' '.repeat(24 - filled)}] `
  }

  /** Takes the line away again. */
  end(): void {
    if (this.#shown && this.#last > 0) process.stderr.write('\r\u001b[K')
  }
}
