import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { SessionTable, SessionTouch } from '../../store/store.ts'
import type { LiveSession } from '../live/live-session.ts'

export interface HousekeepingOptions {
  readonly live: ReadonlyMap<string, LiveSession>
  readonly sessions: SessionTable
  readonly settings: Settings
  /** One bounded sweep of the store; true: there is more. */
  readonly sweep: (limit: number) => Promise<boolean>
  readonly onIdle: (live: LiveSession) => Promise<void>
  readonly onKeepAlive: () => void
}

const TOUCH_DELAY = 20
const AGAIN = 1000
// Of a ttl: so much use may come after a touch without another one.
const MARGIN = 0.1
const SWEEP_PAUSE = 5
const SWEEP_LIMIT = 200

/** What has to happen from time to time, for all sessions of this node together: touch, keep alive, release, sweep. */
export class Housekeeping {
  readonly #options: HousekeepingOptions
  readonly #touches = new Map<string, number>()
  readonly #touchedAt = new WeakMap<LiveSession, number>()
  #touchTimer: NodeJS.Timeout | undefined
  #flushing: Promise<void> = Promise.resolve()
  readonly #timers: NodeJS.Timeout[] = []
  #sweepTimer: NodeJS.Timeout | undefined
  #sweeping: Promise<void> = Promise.resolve()
  #closed = false

  constructor(options: HousekeepingOptions) {
    this.#options = options
    const { ttl, idle, keepAlive } = options.settings
    const check = Math.min(Math.max(Math.min(ttl, idle || ttl) / 10, 50), 10_000)
    this.#every(check, () => this.#check())
    if (keepAlive > 0) this.#every(keepAlive, () => this.#keepAlive())
    this.#scheduleSweep()
  }

  /** The session was used: extends its expiry, at most once in a tenth of the ttl. */
  used(live: LiveSession): void {
    const now = monotonicNow()
    const since = now - (this.#touchedAt.get(live) ?? Number.NEGATIVE_INFINITY)
    if (since < this.#options.settings.ttl * MARGIN) return
    this.#touchedAt.set(live, now)
    this.touch(live.id, 0)
  }

  /** Soon, together with whatever else is to be touched. */
  touch(id: string, delivered: number, after = TOUCH_DELAY): void {
    this.#touches.set(id, Math.max(this.#touches.get(id) ?? 0, delivered))
    if (this.#touchTimer || this.#closed) return
    this.#touchTimer = setTimeout(() => this.#flush(), after)
    this.#touchTimer.unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const timer of this.#timers) clearInterval(timer)
    clearTimeout(this.#sweepTimer)
    clearTimeout(this.#touchTimer)
    this.#flush()
    await this.#flushing
    await this.#sweeping
  }

  #flush(): void {
    this.#touchTimer = undefined
    if (this.#touches.size === 0) return
    const { sessions, settings } = this.#options
    const touches: SessionTouch[] = [...this.#touches].map(([id, delivered]) => ({
      id,
      // Use that comes before the next touch is covered by this one: nothing ends earlier than a ttl after its last use.
      ttl: Math.ceil(settings.ttl * (1 + MARGIN)),
      delivered,
    }))
    this.#touches.clear()
    this.#flushing = sessions.touch(touches).catch((error: unknown) => {
      settings.logger.error(
        { operation: 'touch', error: errorText(error) },
        'sessions could not be kept alive; it is tried again',
      )
      for (const { id, delivered = 0 } of touches) this.touch(id, delivered, AGAIN)
    })
  }

  #check(): void {
    const { live, settings, onIdle } = this.#options
    const now = monotonicNow()
    for (const session of live.values()) {
      session.endForgottenCalls()
      if (session.inUse) {
        session.lastUsed = now
        this.used(session)
      } else if (!session.busy && now - session.lastUsed >= settings.idle) {
        onIdle(session).catch((error: unknown) => {
          settings.logger.warn(
            { sessionId: session.id, error: errorText(error) },
            'a session could not be released',
          )
        })
      }
    }
  }

  #keepAlive(): void {
    for (const session of this.#options.live.values()) session.audience.keepAlive()
    this.#options.onKeepAlive()
  }

  /** Every node sweeps, at times of its own: about once in a tenth of the ttl, between 1 and 60 s, give or take a half. */
  #scheduleSweep(): void {
    if (this.#closed) return
    const base = Math.min(Math.max(this.#options.settings.ttl / 10, 1000), 60_000)
    this.#sweepTimer = setTimeout(
      () => {
        this.#sweeping = this.#sweep().finally(() => this.#scheduleSweep())
      },
      base * (0.5 + Math.random()),
    )
    this.#sweepTimer.unref()
  }

  async #sweep(): Promise<void> {
    const { sweep, settings } = this.#options
    try {
      // Bounded: what is left after so many steps is left to the next round, or to another node.
      for (let step = 0; step < 500 && !this.#closed; step += 1) {
        if (!(await sweep(SWEEP_LIMIT))) return
        // Appends go first: where the store is in this thread, they would queue behind step after step.
        await delay(SWEEP_PAUSE)
      }
    } catch (error) {
      settings.logger.warn(
        { operation: 'sweep', error: errorText(error) },
        'the sweep failed; it will be tried again',
      )
    }
  }

  #every(ms: number, work: () => void): void {
    const timer = setInterval(work, ms)
    timer.unref()
    this.#timers.push(timer)
  }
}
