/** What a node has to do with a session. */
export type State =
  /** Nobody's, or somebody else's: only the store knows. */
  | 'absent'
  /** Being claimed and brought to life. */
  | 'claiming'
  /** The same, but this node leaves: it will be given up as soon as it is here. */
  | 'doomed'
  /** Here, in the generation that we claimed: what we append is accepted, or somebody has followed us. */
  | 'live'
  /** Its instance is stopped, and the store is being told. */
  | 'leaving'

export type Event =
  /** A request needs it here. */
  | 'wanted'
  /** The app has opened it. */
  | 'opened'
  /** The claim succeeded, and it is alive. */
  | 'won'
  /** It was not to be had; or it is not ours any more: fenced, terminated, dropped by the app. */
  | 'lost'
  /** Nobody uses it. */
  | 'idle'
  /** This node leaves. */
  | 'leave'
  /** The store knows that we gave it up, or could not be told. */
  | 'released'

export type Action =
  | 'claim'
  | 'serve'
  /** For the claim or the release under way, then look again. */
  | 'wait'
  | 'stop'
  /** Stop it, tell the store, and report `released`. */
  | 'release'
  | 'nothing'
  | 'never'

type Step = readonly [next: State, action: Action]

const NEVER: Step = ['absent', 'never']

/** Total: whatever happens in whatever state has its answer here, and `never` is a mistake of ours. */
export const LIFECYCLE: { readonly [S in State]: { readonly [E in Event]: Step } } = {
  absent: {
    wanted: ['claiming', 'claim'],
    opened: ['live', 'serve'],
    won: NEVER,
    lost: ['absent', 'nothing'],
    idle: ['absent', 'nothing'],
    leave: ['absent', 'nothing'],
    released: NEVER,
  },
  claiming: {
    wanted: ['claiming', 'wait'],
    opened: NEVER,
    won: ['live', 'serve'],
    lost: ['absent', 'nothing'],
    idle: ['claiming', 'nothing'],
    leave: ['doomed', 'wait'],
    released: NEVER,
  },
  doomed: {
    wanted: ['doomed', 'wait'],
    opened: NEVER,
    won: ['leaving', 'release'],
    lost: ['absent', 'nothing'],
    idle: ['doomed', 'nothing'],
    leave: ['doomed', 'wait'],
    released: NEVER,
  },
  live: {
    wanted: ['live', 'serve'],
    opened: NEVER,
    won: NEVER,
    lost: ['absent', 'stop'],
    idle: ['leaving', 'release'],
    leave: ['leaving', 'release'],
    released: NEVER,
  },
  leaving: {
    wanted: ['leaving', 'wait'],
    opened: NEVER,
    won: NEVER,
    lost: ['leaving', 'nothing'],
    idle: ['leaving', 'nothing'],
    leave: ['leaving', 'wait'],
    released: ['absent', 'nothing'],
  },
}

/** The states of all sessions of this node; the absent ones take no room. */
export class Lifecycle {
  readonly #states = new Map<string, State>()
  /** Those who wait for a claim or a release to be over. */
  readonly #waiting = new Map<string, (() => void)[]>()

  /** Takes the step that the table names, and says what is to be done. */
  on(id: string, event: Event): Exclude<Action, 'never'> {
    const state = this.#states.get(id) ?? 'absent'
    const [next, action] = LIFECYCLE[state][event]
    if (action === 'never') throw new Error(`A session that is ${state} cannot be ${event}.`)
    if (next === 'absent') this.#states.delete(id)
    else this.#states.set(id, next)
    if (next === 'absent' || next === 'live') this.#settle(id)
    return action
  }

  /** Sessions that are here or will be. */
  ids(): readonly string[] {
    return [...this.#states.keys()]
  }

  /** How many that are. */
  get size(): number {
    return this.#states.size
  }

  has(id: string): boolean {
    return this.#states.has(id)
  }

  /** Resolves when the claim or the release under way is over. */
  settled(id: string): Promise<void> {
    const state = this.#states.get(id) ?? 'absent'
    if (state === 'absent' || state === 'live') return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), resolve])
    })
  }

  #settle(id: string): void {
    const waiting = this.#waiting.get(id) ?? []
    this.#waiting.delete(id)
    for (const resolve of waiting) resolve()
  }
}
