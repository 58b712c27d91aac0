import type { Ingredient } from './ingredients.ts'
import { KNOWN } from './known.ts'
import { loadSource, type Source } from './load-source.ts'
import type { Mutant } from './mutants/mutant.ts'
import { type Ran, type RunOptions, run } from './run.ts'

/** The worlds in which a mutant is looked for: what uncovers known defects is left out, as it would hide the mutant. */
export function worldsFor({ with: wanted }: Mutant): Pick<RunOptions, 'with' | 'without'> {
  const hiding = new Set<Ingredient>(KNOWN.map((known) => known.with[0]))
  return { with: wanted, without: [...hiding].filter((each) => !wanted.includes(each)) }
}

/**
 * The first world that gives a mutant away, within the number of seeds that it states: one in which the sources as they
 * are break no promise.
 */
export async function find(mutant: Mutant, healthy: Source): Promise<Ran | undefined> {
  const source = await loadSource(mutant)
  for (let seed = 1; seed <= mutant.seeds; seed += 1) {
    const ran = await run({ ...worldsFor(mutant), source, seed })
    if (ran.violations.length === 0) continue
    const { violations } = await run({ ...worldsFor(mutant), source: healthy, seed })
    if (violations.length === 0) return ran
  }
  return undefined
}
