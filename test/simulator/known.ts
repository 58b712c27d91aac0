import type { Ingredient } from './ingredients.ts'
import type { Invariant, Violation } from './invariants/violations.ts'

/**
 * A defect that is known and waits for its repair: in worlds that have the ingredient, that invariant is not held against
 * anybody. To be emptied.
 */
export interface Known {
  readonly invariant: Invariant
  /** All of them. */
  readonly with: readonly [Ingredient, ...Ingredient[]]
  /** What is said of it. */
  readonly message: RegExp
  readonly because: string
}

const AWAY = ['store-away', 'store-away-for-one'] as const

export const KNOWN: readonly Known[] = [
  ...known(
    'the app never learns that a call without a head was given up',
    'leftovers',
    /requests to the app/,
    ['app-answers-json'],
  ),
  ...known('a DELETE that the app refuses is not said again', 'expires', /in the memory/, [
    'app-answers-503',
    'app-hangs-in-initialize',
  ]),
  ...known('use that the store did not hear of is told it later, and counts from then', 'expires', /./, AWAY),
  ...known('a session is taken for expired after a pause', 'truth', /: 404/, ['pause-long', 'store-away']),
  ...known('what may be repeated is called interrupted', 'truth', /could be repeated/, [
    'pause-long',
    'store-away',
  ]),
  ...known('a call is given up while its client tries to come back', 'truth', /given up/, [
    ...AWAY,
    'tool-cuts',
  ]),
  ...known('what was run is answered 503 when its owners change for too long', 'retry', /./, [
    'pause-long',
    ...AWAY,
  ]),
  ...known('an app stream that cannot be resumed counts as ended', 'truth', /ended the stream/, [
    'app-answers-503',
  ]),
  ...known('a session that was ended comes back with the store', 'truth', /that was ended/, [
    'store-loses-moments',
  ]),
  ...known('something of a drain stays behind', 'leftovers', /timers|subscriptions/, ['drain']),
  ...known('what the store did not take holds a drain', 'drains', /./, ['store-fails-after']),
]

function known(
  because: string,
  invariant: Invariant,
  message: RegExp,
  ingredients: readonly Ingredient[],
): Known[] {
  return ingredients.map((ingredient) => ({ invariant, with: [ingredient], message, because }))
}

export function isKnown({ invariant, message }: Violation, has: ReadonlySet<Ingredient>): boolean {
  return KNOWN.some(
    (known) =>
      known.invariant === invariant &&
      known.with.every((each) => has.has(each)) &&
      known.message.test(message),
  )
}
