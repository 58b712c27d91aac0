import type { Ingredient } from './ingredients.ts'
import type { Invariant, Violation } from './invariants/violations.ts'

/**
 * A defect that is known and waits for its repair: in worlds that have the ingredient, that invariant is not held against
 * anybody. To be emptied.
 */
export interface Known {
  readonly invariant: Invariant
  readonly with: Ingredient
  readonly because: string
}

const FAULTS = [
  'store-fails-before',
  'store-fails-after',
  'store-cuts-batches',
  'store-slow',
  'store-away',
  'store-away-for-one',
  'store-loses-moments',
] as const
const LOSSES = ['messages-lost', 'connections-drop', 'first-subscription-fails'] as const
const ORPHANED = ['kill', 'tool-kills', 'drain', 'pause-long', ...FAULTS, ...LOSSES] as const

/* What is known of the way between nodes before the exchange, and of the engine's patience with the app. */
export const KNOWN: readonly Known[] = [
  ...known(
    'the tail of a request whose owner goes before it answers is adopted unstarted',
    ['expires'],
    ORPHANED,
  ),
  ...known(
    'a reply that is lost is not sent again',
    ['ends', 'drains', 'deadline', 'leftovers'],
    [...FAULTS, ...LOSSES],
  ),
  ...known('what turns out to be stored already is told to no edge', ['ends'], FAULTS),
  ...known(
    'a request that is sent again runs while its first record is being stored',
    ['runs'],
    [...FAULTS, 'pause-long'],
  ),
  ...known('what was run is answered 503 when its owners change for too long', ['retry'], ORPHANED),
  ...known('a session expires while its node is deaf', ['truth'], ['first-subscription-fails']),
  ...known(
    'a call is run again when the app has lost its session under it',
    ['complete', 'runs', 'truth'],
    ['app-loses-sessions'],
  ),
  ...known(
    'a takeover does not look at the answer to notifications/initialized',
    ['truth'],
    ['app-answers-503'],
  ),
  ...known(
    'state that the store did not take is stored at the next use, which may be elsewhere',
    ['state'],
    FAULTS,
  ),
  ...known('a request of a batch is answered twice after a takeover', ['once'], ['client-batches']),
  ...known('positions are given out twice', ['writes', 'once', 'order', 'complete'], ['store-loses-moments']),
  ...known(
    'the head of the standalone stream is waited for',
    ['ends', 'truth', 'expires', 'drains', 'deadline'],
    ['app-late-head'],
  ),
  ...known(
    'a cut that overtakes the reply ends nothing',
    ['ends', 'drains', 'deadline'],
    ['tool-cuts', 'tool-cuts-at-once'],
  ),
  ...known(
    'an app stream cut twice without an event counts as ended',
    ['truth'],
    ['tool-cuts', 'tool-cuts-at-once'],
  ),
  ...known(
    'a call that takes its node with it runs for ever',
    ['ends', 'truth', 'runs', 'drains', 'deadline'],
    ['tool-kills'],
  ),
  ...known(
    'a reader that drains in the same turn ends the replay',
    ['ends', 'drains', 'deadline'],
    ['client-is-slow'],
  ),
  ...known('a failure of the store behind a forwarded request is answered 500', ['throws'], FAULTS),
  ...known('a call without a head that is given up is answered 500', ['throws'], ['app-answers-json']),
  ...known(
    'the app never learns that a call without a head was given up',
    ['leftovers'],
    ['app-answers-json'],
  ),
  ...known(
    'an app that loses its session twice in a row is answered 500',
    ['throws'],
    ['app-loses-sessions'],
  ),
  ...known(
    'a call whose client is gone pins its session',
    ['expires'],
    ['client-cuts', 'tool-never-answers'],
  ),
  ...known(
    'a takeover does not look at the answer to notifications/initialized',
    ['state'],
    ['app-answers-503'],
  ),
  ...known('state that the store did not take may be missed elsewhere', ['state'], FAULTS),
  ...known('a JSON answer is lost when a lease lapses', ['ends', 'drains', 'deadline'], ['app-answers-json']),
  ...known(
    'a drain waits for what is called meanwhile, and leaves streams',
    ['drains', 'leftovers'],
    ['drain'],
  ),
  ...known('what hangs holds a drain', ['drains', 'deadline'], [...FAULTS, ...LOSSES, 'kill', 'tool-cuts']),
]

function known(
  because: string,
  invariants: readonly Invariant[],
  ingredients: readonly Ingredient[],
): Known[] {
  return ingredients.flatMap((ingredient) =>
    invariants.map((invariant) => ({ invariant, with: ingredient, because })),
  )
}

export function isKnown({ invariant }: Violation, has: ReadonlySet<Ingredient>): boolean {
  return KNOWN.some((known) => known.invariant === invariant && has.has(known.with))
}
