/**
 * A map of few entries that come and go, in the order in which they came: the calls of one session, not the requests of a node, for
 * each look goes through all of them. A `Map` that is added to and deleted from makes a new table every few times, and each refers
 * to the next: once the collector has taken one of them for old, it takes all that the later ones ever held for old as well. As
 * lists, a third less of what a call allocates outlives it.
 */
export class FewMap<K, V> {
  readonly #keys: K[] = []
  readonly #values: V[] = []

  get size(): number {
    return this.#keys.length
  }

  has(key: K): boolean {
    return this.#keys.includes(key)
  }

  get(key: K): V | undefined {
    const at = this.#keys.indexOf(key)
    return at === -1 ? undefined : this.#values[at]
  }

  set(key: K, value: V): this {
    const at = this.#keys.indexOf(key)
    if (at === -1) {
      this.#keys.push(key)
      this.#values.push(value)
    } else {
      this.#values[at] = value
    }
    return this
  }

  delete(key: K): boolean {
    const at = this.#keys.indexOf(key)
    if (at === -1) return false
    this.#keys.splice(at, 1)
    this.#values.splice(at, 1)
    return true
  }

  /** As they are now, whatever happens to the map meanwhile. */
  keys(): readonly K[] {
    return [...this.#keys]
  }

  /** The same. */
  values(): readonly V[] {
    return [...this.#values]
  }

  /** The same. */
  entries(): readonly (readonly [K, V])[] {
    return this.#keys.map((key, i) => [key, this.#values[i]!])
  }
}

/** The same for values alone. */
export class FewSet<T> {
  readonly #values: T[] = []

  get size(): number {
    return this.#values.length
  }

  add(value: T): this {
    if (!this.#values.includes(value)) this.#values.push(value)
    return this
  }

  delete(value: T): boolean {
    const at = this.#values.indexOf(value)
    if (at === -1) return false
    this.#values.splice(at, 1)
    return true
  }

  values(): readonly T[] {
    return [...this.#values]
  }
}
