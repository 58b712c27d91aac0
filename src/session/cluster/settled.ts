/**
 * Numbers that are settled, as ranges: they count up, so the ranges are as many as the numbers between them that are
 * still open, however many are settled.
 */
export class Settled {
  /** In order, apart from each other. */
  readonly #ranges: [from: number, to: number][] = []

  get ranges(): number {
    return this.#ranges.length
  }

  has(id: number): boolean {
    const range = this.#ranges[this.#at(id)]
    return range !== undefined && id <= range[1]
  }

  add(id: number): void {
    if (this.has(id)) return
    const at = this.#at(id)
    const before = this.#ranges[at]
    const after = this.#ranges[at + 1]
    const joinsBefore = before?.[1] === id - 1
    const joinsAfter = after?.[0] === id + 1
    if (joinsBefore && joinsAfter) {
      before[1] = after[1]
      this.#ranges.splice(at + 1, 1)
    } else if (joinsBefore) before[1] = id
    else if (joinsAfter) after[0] = id
    else this.#ranges.splice(at + 1, 0, [id, id])
  }

  /** Nobody asks for what is below `floor` any more. */
  forgetBelow(floor: number): void {
    const kept = this.#ranges.findIndex(([, to]) => to >= floor)
    this.#ranges.splice(0, kept === -1 ? this.#ranges.length : kept)
  }

  /** The last range that begins at or before `id`; -1: none does. Looked for from the end, where most are. */
  #at(id: number): number {
    let at = this.#ranges.length - 1
    while (at >= 0 && this.#ranges[at]![0] > id) at -= 1
    return at
  }
}
