import type { Ingredient } from './ingredients.ts'
import { type Ran, type RunOptions, run } from './run.ts'

/** The least that a world must be made of to break the same promise: ingredients are left out one after the other. */
export async function shrink(options: RunOptions, { ingredients, violations }: Ran): Promise<Ran> {
  const { invariant } = violations[0]!
  let least: readonly Ingredient[] = ingredients
  let smallest: Ran | undefined
  for (const each of ingredients) {
    const fewer = least.filter((kept) => kept !== each)
    const ran = await run({ ...options, trace: false, only: fewer, with: fewer })
    if (ran.violations[0]?.invariant !== invariant) continue
    least = fewer
    smallest = ran
  }
  return smallest ?? (await run({ ...options, trace: false, only: least, with: least }))
}
