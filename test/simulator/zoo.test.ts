import { beforeAll, expect, test } from 'vitest'
import { find } from './find.ts'
import { loadSource, type Source } from './load-source.ts'
import { ZOO } from './mutants/zoo.ts'

/*
 * The simulator can fail: sources with one line put wrong, each of which it gives away within the seeds that it states. A
 * mutant whose line is no longer there fails here too: give it the line's new form, or another.
 */
let source: Source

beforeAll(async () => {
  source = await loadSource()
})

test('mutants have names of their own', () => {
  expect(new Set(ZOO.map(({ name }) => name)).size).toBe(ZOO.length)
  expect(ZOO.length).toBeGreaterThanOrEqual(30)
})

test.each(ZOO.map((mutant) => [mutant.name, mutant] as const))(
  '%s',
  async (_, mutant) => {
    expect(await find(mutant, source), `not within ${mutant.seeds} seeds`).toBeDefined()
  },
  60_000,
)
