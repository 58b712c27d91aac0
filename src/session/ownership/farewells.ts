import { AppAway } from '../../app/app.ts'
import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { LocalApp } from '../live/local-app.ts'

export interface FarewellsOptions {
  /** Does a session here, or one that is being claimed, go by that id in the app? */
  readonly isInUse: (local: LocalApp) => boolean
  readonly logger: Logger
}

/** Milliseconds after which a refused DELETE is said again: 500, 1,000, 2,000 … 30,000; at the most so often, about two minutes. */
const AGAIN = 500
const AGAIN_MOST = 30_000
const MAX_TRIES = 10
/** Sessions for which it is to be said again; one more is given up. */
const MAX_WAITING = 10_000

/**
 * Sessions of the app's own that nobody needs any more: the app is told to forget them, or it would keep them for ever. It
 * may be too busy for that at the moment, and nobody else would ever tell it.
 *
 * An app may know a session by the same id again when it comes back to this process (`persistentSessionId`). So a DELETE is not
 * said (again) while the session is here or on its way, and whoever brings it back waits for one that is under way.
 */
export class Farewells {
  readonly #options: FarewellsOptions
  /** Those that are being said, by the client's id. */
  readonly #saying = new Map<string, Promise<unknown>>()
  readonly #timers = new Set<NodeJS.Timeout>()
  #closed = false

  constructor(options: FarewellsOptions) {
    this.#options = options
  }

  /** Settles when the app has answered, whatever that is, or has had its time. Never rejects. */
  async say(local: LocalApp): Promise<void> {
    await this.#try(local, 1)
  }

  /** For what came up when nobody waited for it any more: the session may be here again. */
  sayLater(local: LocalApp): void {
    this.#later(local, 1)
  }

  /** Settles when nothing is being said of that session. Never rejects. */
  async silence(publicId: string): Promise<void> {
    await this.#saying.get(publicId)
  }

  /** What is still to be said again is not: the process ends, and its app with it. */
  close(): void {
    this.#closed = true
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }

  async #try(local: LocalApp, attempt: number): Promise<void> {
    const { publicId } = local
    const before = this.#saying.get(publicId)
    const saying = Promise.all([before, this.#say(local, attempt)])
    this.#saying.set(publicId, saying)
    await saying
    if (this.#saying.get(publicId) === saying) this.#saying.delete(publicId)
  }

  async #say(local: LocalApp, attempt: number): Promise<void> {
    const { logger } = this.#options
    try {
      await local.delete()
    } catch (error) {
      // With its process the session is gone as well.
      if (this.#closed || error instanceof AppAway) return
      const facts = { sessionId: local.publicId, error: errorText(error) }
      logger.debug(facts, 'the app did not free its session; it is asked again')
      this.#later(local, attempt + 1)
    }
  }

  #later(local: LocalApp, attempt: number): void {
    const { isInUse, logger } = this.#options
    if (this.#closed) return
    if (attempt > MAX_TRIES || this.#timers.size >= MAX_WAITING) {
      logger.warn({ sessionId: local.publicId }, 'the app did not free its session, and is not asked again')
      return
    }
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer)
        if (isInUse(local)) this.#later(local, attempt + 1)
        else void this.#try(local, attempt)
      },
      Math.min(AGAIN * 2 ** Math.max(attempt - 2, 0), AGAIN_MOST),
    )
    timer.unref()
    this.#timers.add(timer)
  }
}
