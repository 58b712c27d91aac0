import type { Ingredient } from '../ingredients.ts'

/** One line of the sources, put wrong: what the simulator must notice. */
export interface Mutant {
  readonly name: string
  readonly file: string
  /** Stands in the file exactly once. */
  readonly replace: string
  readonly by: string
  /** What the worlds are made of in which it is looked for, besides what chance adds. */
  readonly with: readonly Ingredient[]
  /** It is found within so many of them. */
  readonly seeds: number
}
