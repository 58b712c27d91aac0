import { beforeAll, describe, expect, test } from 'vitest'
import { loadSource, type Source } from './load-source.ts'
import { type Ran, run } from './run.ts'

/*
 * Worlds of nodes, clients, apps and a store in which anything may fail, one from each seed. Whatever happens, the promises
 * of `invariants/violations.ts` hold. `npm run simulate -- --seed N --trace` tells who said what to whom.
 */
const FIRST = Number(process.env.FIRST_SEED ?? 1)
const SEEDS = Number(process.env.SEEDS ?? 400)
const AT_ONCE = 50

let source: Source

beforeAll(async () => {
  source = await loadSource()
})

describe.each(Array.from({ length: Math.ceil(SEEDS / AT_ONCE) }, (_, i) => FIRST + i * AT_ONCE))(
  'from seed %i on',
  (first) => {
    test('every promise holds', async () => {
      const broken: string[] = []
      for (let seed = first; seed < first + AT_ONCE; seed += 1)
        broken.push(...told(await run({ source, seed })))
      expect(broken).toEqual([])
    }, 60_000)
  },
)

test('one seed run twice tells the same, whatever ran in between', async () => {
  const tell = async (seed: number) => (await run({ source, seed, trace: true })).trace
  const seeds = Array.from({ length: 20 }, (_, i) => FIRST + i)
  const before: (readonly string[])[] = []
  for (const seed of seeds) before.push(await tell(seed))
  for (const [i, seed] of [...seeds.entries()].reverse()) {
    const after = await tell(seed)
    expect(after.length).toBeGreaterThan(50)
    expect(after.join('\n') === before[i]!.join('\n'), `seed ${seed}`).toBe(true)
  }
})

function told({ seed, violations, ingredients }: Ran): string[] {
  return violations.map(
    ({ invariant, message, at }) =>
      `seed ${seed} after ${Math.round(at)} ms, "${invariant}": ${message} (with ${ingredients.join(', ')})`,
  )
}
