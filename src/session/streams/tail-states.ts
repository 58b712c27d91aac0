/** Where a client's event stream stands. */
export type TailState =
  /** Its response is not open yet; what is pushed is all there is. */
  | 'fresh'
  /** The same, and the log must be read first. */
  | 'waiting'
  /** The client has everything: what is pushed is written straight on. */
  | 'live'
  /** The log is being read. */
  | 'reading'
  /** The same, and more has come since. */
  | 'stale'
  /** The client is slow; it has everything but what lies in its buffer. */
  | 'full'
  /** The same, and there is more in the log. */
  | 'late'
  | 'closed'

export type TailEvent =
  /** The response is open. */
  | 'started'
  /** Something is stored, and nothing can be missing before it. */
  | 'pushed'
  /** Something is stored, and more may be missing. */
  | 'missed'
  /** The log was read to its end. */
  | 'read'
  /** The client's buffer is full. */
  | 'full'
  /** It has room again. */
  | 'drained'

export type TailAction =
  /** Write what was kept since the stream began. */
  | 'begin'
  /** Write what was pushed. */
  | 'write'
  /** Read the log from where the client is. */
  | 'read'
  /** The client has all that is stored: see what waited for that. */
  | 'rest'
  | 'nothing'
  | 'never'

type Step = readonly [next: TailState, action: TailAction]

const NEVER: Step = ['closed', 'never']

/** Total: whatever happens in whatever state has its answer here, and `never` is a mistake of ours. */
export const TAIL: { readonly [S in TailState]: { readonly [E in TailEvent]: Step } } = {
  fresh: {
    started: ['live', 'begin'],
    pushed: NEVER,
    missed: ['waiting', 'nothing'],
    read: NEVER,
    full: NEVER,
    drained: NEVER,
  },
  waiting: {
    started: ['reading', 'read'],
    pushed: ['waiting', 'nothing'],
    missed: ['waiting', 'nothing'],
    read: NEVER,
    // Its priming event alone may fill a small buffer: the read that follows goes on when there is room.
    full: ['waiting', 'nothing'],
    drained: ['waiting', 'nothing'],
  },
  live: {
    started: NEVER,
    pushed: ['live', 'write'],
    missed: ['reading', 'read'],
    read: NEVER,
    full: ['full', 'nothing'],
    drained: ['live', 'nothing'],
  },
  reading: {
    started: NEVER,
    pushed: ['stale', 'nothing'],
    missed: ['stale', 'nothing'],
    read: ['live', 'rest'],
    // The reader stops: the next one begins where the client is.
    full: ['late', 'nothing'],
    drained: ['reading', 'nothing'],
  },
  stale: {
    started: NEVER,
    pushed: ['stale', 'nothing'],
    missed: ['stale', 'nothing'],
    read: ['reading', 'read'],
    full: ['late', 'nothing'],
    drained: ['stale', 'nothing'],
  },
  full: {
    started: NEVER,
    pushed: ['late', 'nothing'],
    missed: ['late', 'nothing'],
    read: NEVER,
    full: ['full', 'nothing'],
    drained: ['live', 'rest'],
  },
  late: {
    started: NEVER,
    pushed: ['late', 'nothing'],
    missed: ['late', 'nothing'],
    read: NEVER,
    full: ['late', 'nothing'],
    drained: ['reading', 'read'],
  },
  closed: {
    started: ['closed', 'nothing'],
    pushed: ['closed', 'nothing'],
    missed: ['closed', 'nothing'],
    read: ['closed', 'nothing'],
    full: ['closed', 'nothing'],
    drained: ['closed', 'nothing'],
  },
}

export function step(state: TailState, event: TailEvent): { next: TailState; action: TailAction } {
  const [next, action] = TAIL[state][event]
  if (action === 'never') throw new Error(`An event stream that is ${state} cannot be told: ${event}.`)
  return { next, action }
}
