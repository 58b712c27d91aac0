/**
 * A word to stop, said at most once. What an `AbortSignal` says too, but that one costs more than all the rest of a
 * small request (an event target, and a DOMException with a stack when it is said), and most are never said.
 */
export interface StopSignal {
  readonly stopped: boolean
  /** Calls back when it is said, at once if it has been; returns how to take that back. */
  onStop(callback: () => void): () => void
}

export class Stop implements StopSignal {
  #callbacks: Set<() => void> | undefined
  stopped = false

  onStop(callback: () => void): () => void {
    if (this.stopped) {
      callback()
      return () => {}
    }
    this.#callbacks ??= new Set()
    const callbacks = this.#callbacks.add(callback)
    return () => void callbacks.delete(callback)
  }

  stop(): void {
    if (this.stopped) return
    this.stopped = true
    const callbacks = this.#callbacks
    this.#callbacks = undefined
    for (const callback of callbacks ?? []) callback()
  }
}
