/** Work of which at most one of each key is under way: whoever asks meanwhile gets what that comes to. */
export class UnderWay<T> {
  readonly #work = new Map<string, Promise<T>>()

  run(key: string, begin: () => Promise<T>): Promise<T> {
    let work = this.#work.get(key)
    if (!work) {
      work = begin().finally(() => this.#work.delete(key))
      this.#work.set(key, work)
    }
    return work
  }
}
