import type { App, AppRequest } from '../../app/app.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { ClaimedSession, EventLog } from '../../store/port.ts'
import { AppSilent } from '../live/ask-app.ts'
import type { LiveSession } from '../live/live-session.ts'
import type { LocalApp } from '../live/local-app.ts'
import { SessionLeft } from '../live/session-left.ts'
import type { Principals } from '../protocol/principal.ts'
import type { Directory } from './directory.ts'
import type { Farewells } from './farewells.ts'
import type { Membership } from './membership.ts'
import { openLocal, patiently, type Rehydrating, restore, settleLostCalls } from './rehydrate.ts'

export interface ClaimsOptions {
  readonly app: App
  readonly log: EventLog
  readonly directory: Directory
  readonly settings: Settings
  readonly node: Membership
  readonly farewells: Farewells
  readonly newSession: (record: ClaimedSession, local: LocalApp) => LiveSession
  readonly onUse: (live: LiveSession) => void
  /** It was made, and does not come to life. */
  readonly onDropped: (live: LiveSession) => void
}

/** A session in the name of a node. */
interface Held {
  readonly id: string
  readonly generation: number
  readonly owner: string
}

/** How a session becomes this node's: claimed in the store, and brought to life in the app. */
export class Claims {
  readonly #options: ClaimsOptions

  constructor(options: ClaimsOptions) {
    this.#options = options
  }

  /**
   * For whoever needs it now, in bounded time: everybody else who needs the session waits for it. Undefined: somebody else was
   * quicker. Rejects with what `rehydrate.ts` does; then it is nobody's again.
   */
  async claim(
    { id, generation, owner }: Held,
    principal: Principals,
    caller: AppRequest,
  ): Promise<LiveSession | undefined> {
    const { app, directory, settings, farewells } = this.#options
    const record = await directory.sessions.claim(id, { owner, generation })
    if (!record) return undefined
    try {
      return await patiently(settings, (signal) =>
        this.#revive(record, { app, settings, principal, caller, signal, farewells }),
      )
    } catch (error) {
      await directory.sessions.release(id, record.generation).catch((failed: unknown) => {
        const facts = { sessionId: id, error: errorText(failed) }
        settings.logger.warn(facts, 'a session could not be given up; it is free when this node has left')
      })
      throw error
    }
  }

  /**
   * A lease may be over while a session is on its way here, which is then in the name of a node that is gone: anybody could
   * have it, and whoever reclaims what this node holds did not know of it. False: somebody does.
   */
  async takeAlong({ id, generation, owner }: Held): Promise<boolean> {
    const { directory, node } = this.#options
    for (let holder = owner; node.id !== holder; ) {
      holder = (await node.join()).id
      if (!(await directory.sessions.claim(id, { owner: holder, generation, keep: true }))) return false
    }
    return true
  }

  async #revive(record: ClaimedSession, asked: Rehydrating): Promise<LiveSession> {
    const { log, farewells, newSession, onUse, onDropped } = this.#options
    const local = await openLocal(record, asked)
    const live = newSession(record, local)
    // The app has accepted whoever needs it. What comes now may take its time, and the session must not expire under it.
    onUse(live)
    try {
      await restore(live, record.state, asked.signal)
      if (asked.signal.stopped) throw new AppSilent()
      await settleLostCalls(live, record.open, log, asked.signal)
      const { id, generation } = live
      if (!(await this.takeAlong({ id, generation, owner: record.owner! }))) throw new SessionLeft()
      return live
    } catch (error) {
      live.close()
      onDropped(live)
      void farewells.say(local)
      throw error
    }
  }
}
