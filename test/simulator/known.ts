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

const ADOPTED =
  'the tail of a request whose owner goes before it has answered is adopted unstarted, and pins the session'
const REPLY =
  'a reply, or letters that were taken and not received, are not sent again: the edge waits as long as its owner lives'
const BACKLOG = 'what turns out to be stored already is told to no edge'
const RENEWAL = 'a lapse of the lease orphans requests that are on their way'

export const KNOWN: readonly Known[] = [
  ...known(
    REPLY,
    ['ends'],
    ['store-fails-before', 'store-fails-after', 'store-away-for-one', 'store-loses-moments'],
  ),
  ...known(BACKLOG, ['ends'], ['store-cuts-batches', 'store-fails-after']),
  ...known(
    ADOPTED,
    ['expires'],
    [
      'kill',
      'tool-kills',
      'drain',
      'pause-long',
      'store-away',
      'store-away-for-one',
      'store-loses-moments',
      'store-fails-before',
      'store-fails-after',
    ],
  ),
  ...known(RENEWAL, ['expires', 'ends'], ['store-slow']),
  ...known(
    'positions are given out twice when the store has lost its last moments',
    ['writes', 'once', 'order', 'complete'],
    ['store-loses-moments'],
  ),
  ...known('a node whose first subscription fails stays deaf', ['ends'], ['first-subscription-fails']),
  ...known(
    'the last wake-up of a stream may be lost, and nobody notices',
    ['ends'],
    ['messages-lost', 'connections-drop'],
  ),
  ...known(
    'initialize and takeovers wait for the head of the standalone stream',
    ['ends', 'truth', 'expires'],
    ['app-late-head'],
  ),
  ...known('a cut that overtakes the reply ends nothing', ['ends'], ['tool-cuts', 'tool-cuts-at-once']),
  ...known(
    'a stream of the app that is cut twice without an event in between counts as ended',
    ['truth'],
    ['tool-cuts', 'tool-cuts-at-once'],
  ),
  ...known(
    'a call that takes its node with it is run again for ever',
    ['ends', 'truth', 'runs'],
    ['tool-kills'],
  ),
  ...known('a reader that drains in the same turn ends the replay', ['ends'], ['client-is-slow']),
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
