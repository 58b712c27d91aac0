import { expect, test } from 'vitest'
import { KINDS, nameOf } from './kinds.ts'
import { loadMutant } from './load-mutant.ts'
import { MUTANTS } from './mutants.ts'
import { run } from './run.ts'

/*
 * The fuzzer can fail: the package with one line put wrong, each of which it gives away within the requests that it states. A mutant
 * whose line is no longer there fails here too: give it the line's new form, or another.
 */
test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  '%s',
  async (_, { world, requests, ...mutant }) => {
    const pkg = await loadMutant({ world, requests, ...mutant })
    const kind = KINDS.find((each) => nameOf(each) === world)
    expect(kind, world).toBeDefined()
    const violations = await run({ pkg, seed: 1, from: 0, to: requests, kind: kind!, untilOne: true })
    expect(violations, `not within ${requests} requests`).not.toEqual([])
  },
  120_000,
)
