import { ALL_INGREDIENTS } from './ingredients.ts'
import { loadSource, type Source } from './load-source.ts'
import type { Mutant } from './mutants/mutant.ts'
import { type Ran, type RunOptions, run } from './run.ts'

/** What goes wrong by itself: in a mutant's worlds only where it asks for it, as it would hide the mutant more often than show it. */
const FAULT = /^(store|messages|connections|first-subscription)-|^(kill|pause|pause-long|drain|clocks-apart)$/

export function worldsFor({ with: wanted }: Mutant): Pick<RunOptions, 'with' | 'without'> {
  return {
    with: wanted,
    without: ALL_INGREDIENTS.filter((each) => FAULT.test(each) && !wanted.includes(each)),
  }
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
