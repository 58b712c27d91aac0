import { delay } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { SessionState } from '../../store/port.ts'
import { FORMATS, formatOf } from '../../versions.ts'
import { type Answer, refuse } from '../protocol/answer.ts'
import type { Message, Request } from '../protocol/json-rpc.ts'
import type { Binding } from './binding.ts'
import { SessionLeft } from './session-left.ts'
import { changesState, isFull, stateAfter } from './session-state.ts'

// Milliseconds after which state that the store did not take is stored again.
const SAVE_AGAIN = 250

export interface StoredStateOptions {
  readonly sessionId: string
  readonly state: SessionState
  readonly binding: Binding
  readonly settings: Settings
  /** Stores a new state, and whose the session is; false: this node does not own the session any more. */
  readonly saveState: (state: SessionState, principal: string | null) => Promise<boolean>
  readonly isClosed: () => boolean
  readonly onLost: () => void
}

/** What the next owner of a session tells its app, and whose the session is: stored as it changes. */
export class StoredState {
  readonly #options: StoredStateOptions
  #state: SessionState
  #unsaved = false

  constructor(options: StoredStateOptions) {
    this.#options = options
    this.#state = options.state
    options.binding.onChange = () => this.#save(this.#state)
  }

  get current(): SessionState {
    return this.#state
  }

  /**
   * Stores whose the session is, where that was found out before it came to life; and in which format it is from now on,
   * before anything of that format is appended.
   */
  async saveClaimed(): Promise<void> {
    const { principalSource, credential } = this.#options.binding.state
    const known = this.#state
    const isBound =
      principalSource === known.principalSource && credential?.digest === known.credential?.digest
    if (!isBound || formatOf(known) !== FORMATS.writes) await this.#save(known)
  }

  /** The session is in use: what the store did not take until now may fit the moment. */
  saveUnsaved(): void {
    if (this.#unsaved) void this.#save(this.#state)
  }

  /** The app has carried out what may change the state. Settles when that is stored, or kept to be stored soon. */
  answered(request: Request, response: Message): Promise<void> | undefined {
    if (!changesState(request) || response.error !== undefined) return undefined
    return this.#save(stateAfter(this.#state, request))
  }

  /** A refusal where the session would have more subscriptions than it may have. */
  refuse(requests: readonly Request[]): Answer | undefined {
    const { settings, sessionId } = this.#options
    const asked = requests.reduce(stateAfter, this.#state)
    if (asked === this.#state || !isFull(asked, this.#state, settings.maxSubscriptions)) return undefined
    settings.logger.warn({ sessionId }, 'a session has as many subscriptions as it may have')
    return refuse(429, 'Too many subscriptions of this session')
  }

  /**
   * The client has heard of a later owner, and this node has not (it may not reach the store): what is said to that one
   * must not be swallowed here. But a client may say anything: the store knows. Rejects with `SessionLeft`, or as the store.
   */
  async confirmOwned(): Promise<void> {
    const { saveState, binding, onLost } = this.#options
    if (await saveState(this.#state, binding.principal)) return
    onLost()
    throw new SessionLeft()
  }

  async #save(changed: SessionState): Promise<void> {
    const { saveState, isClosed, onLost, settings, binding, sessionId } = this.#options
    const { principalSource: _source, credential: _credential, ...state } = changed
    this.#state = { ...state, ...binding.state, format: FORMATS.writes }
    try {
      this.#unsaved = false
      if (!(await saveState(this.#state, binding.principal))) onLost()
    } catch (error) {
      // The session goes on with it; it is stored soon, or at the next use: its next owner must not miss it.
      this.#unsaved = true
      void delay(SAVE_AGAIN).then(() => {
        if (!isClosed()) this.saveUnsaved()
      })
      settings.logger.error(
        { operation: 'update', sessionId, error: errorText(error) },
        'state is not stored',
      )
    }
  }
}
