import type { Presence } from '../app.ts'

// Milliseconds between looks for a server that is away: 50, 100 … 1,000.
const FIRST_LOOK = 50
const LAST_LOOK = 1000

/** Knows whether the server behind us is there: asked when something speaks against it, and again until it is back. */
export class Watch implements Presence {
  readonly #reach: () => Promise<void>
  readonly #callbacks: ((away: boolean, reason?: unknown) => void)[] = []
  #looking: Promise<boolean> | undefined
  #timer: NodeJS.Timeout | undefined
  #wait = 0
  #closed = false
  away = false

  /** `reach` resolves when the server answers, and rejects when it does not. */
  constructor(reach: () => Promise<void>) {
    this.#reach = reach
  }

  onChange(callback: (away: boolean, reason?: unknown) => void): void {
    this.#callbacks.push(callback)
  }

  /** All who ask at the same time share one look; while it is away, the next look is due anyway. */
  async check(): Promise<boolean> {
    return this.away || this.#closed ? this.away : this.#look()
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  #look(): Promise<boolean> {
    this.#looking ??= this.#reach()
      .then(
        () => this.#settle(false),
        (reason) => this.#settle(true, reason),
      )
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  #settle(away: boolean, reason?: unknown): boolean {
    if (this.#closed) return away
    const changed = away !== this.away
    this.away = away
    if (away) {
      this.#wait = changed ? FIRST_LOOK : Math.min(this.#wait * 2, LAST_LOOK)
      this.#timer = setTimeout(() => void this.#look(), this.#wait)
      this.#timer.unref()
    }
    if (changed) for (const callback of this.#callbacks) callback(away, reason)
    return away
  }
}
