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
