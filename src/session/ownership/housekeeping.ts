import { delay, monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { SessionTable, SessionTouch } from '../../store/port.ts'
import type { LiveSession } from '../live/live-session.ts'

export interface HousekeepingOptions {
  readonly live: ReadonlyMap<string, LiveSession>
  readonly sessions: SessionTable
  readonly settings: Settings
  /** One bounded sweep of the store; true: there is more. */
  readonly sweep: (limit: number) => Promise<boolean>
  readonly onIdle: (live: LiveSession) => Promise<void>
  readonly onKeepAlive: () => void
  /** The store says that the session is gone, or another's. */
  readonly onLost: (live: LiveSession) => void
}

const TOUCH_DELAY = 20
/** After a touch that failed: the store may be back any moment, and a session expires while nobody can say that it is used. */
const AGAIN = 250
// Of a ttl: so much use may come after a touch without another one.
const MARGIN = 0.1
const SWEEP_PAUSE = 5
const SWEEP_LIMIT = 200

/**
 * Milliseconds that the store is told. Use that comes before it is told again is covered: nothing ends earlier than a ttl
 * after its last use.
 */
export function lifetimeOf({ ttl }: Settings): number {
  return Math.ceil(ttl * (1 + MARGIN))
}

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
    const { ttl, idle, keepAlive, lease } = options.settings
    const check = Math.min(Math.max(Math.min(ttl, idle || ttl) / 10, 50), 10_000)
    this.#every(check, () => this.#check())
    this.#every(lease, () => this.#look())
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

  /** The store has just been told how long it lives, see `lifetimeOf`. */
  created(live: LiveSession): void {
    this.#touchedAt.set(live, monotonicNow())
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
    const { live, settings } = this.#options
    const touches = [...this.#touches].map(([id, delivered]) => ({
      id,
      ...held(live.get(id)),
      ttl: lifetimeOf(settings),
      delivered,
    }))
    this.#touches.clear()
    this.#flushing = this.#touch(touches)
  }

  async #touch(touches: readonly SessionTouch[]): Promise<void> {
    const { settings } = this.#options
    try {
      await this.#touchHeld(touches)
    } catch (error) {
      settings.logger.error(
        { operation: 'touch', error: errorText(error) },
        'sessions could not be kept alive; it is tried again',
      )
      for (const { id, delivered = 0 } of touches) this.touch(id, delivered, AGAIN)
    }
  }

  /**
   * Are the sessions here still ours? Word that one was terminated or claimed may be lost; this is the floor under it, in
   * one operation for all of them.
   */
  async #look(): Promise<void> {
    const { live, settings } = this.#options
    if (live.size === 0) return
    try {
      await this.#touchHeld([...live.values()].map((session) => ({ id: session.id, ...held(session) })))
    } catch (error) {
      settings.logger.debug(
        { operation: 'touch', error: errorText(error) },
        'what is held could not be looked at',
      )
    }
  }

  async #touchHeld(touches: readonly SessionTouch[]): Promise<void> {
    const { live, sessions, onLost } = this.#options
    const asked = new Map(touches.map(({ id, generation }) => [id, generation]))
    for (const id of await sessions.touch(touches)) {
      const session = live.get(id)
      // It may have been claimed anew while the store was asked.
      if (session && session.generation === asked.get(id)) onLost(session)
    }
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

function held(live: LiveSession | undefined): Pick<SessionTouch, 'generation'> {
  return live ? { generation: live.generation } : {}
}
