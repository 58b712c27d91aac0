import { parseArgs } from 'node:util'
import type { Ingredient } from './ingredients.ts'
import { loadSource } from './load-source.ts'
import { ZOO } from './mutants/zoo.ts'
import { type RunOptions, run } from './run.ts'
import { shrink } from './shrink.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    first: { type: 'string', default: '1' },
    seed: { type: 'string' },
    mutant: { type: 'string' },
    trace: { type: 'boolean', default: false },
    shrink: { type: 'boolean', default: false },
    with: { type: 'string', multiple: true, default: [] },
    only: { type: 'string' },
    without: { type: 'string', multiple: true, default: [] },
  },
})

const mutant = values.mutant === undefined ? undefined : ZOO.find(({ name }) => name === values.mutant)
if (values.mutant !== undefined && !mutant) {
  console.error(
    `There is no mutant "${values.mutant}"; there are:\n${ZOO.map(({ name }) => `  ${name}`).join('\n')}`,
  )
  process.exit(2)
}
const source = await loadSource(mutant)
const first = Number(values.seed ?? values.first)
const seeds = values.seed === undefined ? Number(values.seeds) : 1
const began = process.cpuUsage()
const failed = new Map<string, number>()
let turns = 0
for (let seed = first; seed < first + seeds; seed += 1) {
  const options: RunOptions = {
    source,
    seed,
    trace: values.trace,
    with: [...(mutant?.with ?? []), ...(values.with as Ingredient[])],
    without: values.without as Ingredient[],
    only: values.only?.split(',') as Ingredient[] | undefined,
  }
  const ran = await run(options)
  turns += ran.turns
  for (const line of ran.trace) console.log(line)
  if (ran.violations.length === 0) continue
  const { invariant, message } = ran.violations[0]!
  failed.set(invariant, (failed.get(invariant) ?? 0) + 1)
  console.log(`seed ${seed}: ${invariant}: ${message} (with ${ran.ingredients.join(', ')})`)
  if (values.shrink) {
    const { ingredients, violations } = await shrink(options, ran)
    console.log(`  with ${ingredients.join(',')}: ${violations[0]?.message}`)
  }
  if (values.seed !== undefined)
    for (const each of ran.violations) console.log(`  ${each.at} ${each.invariant}: ${each.message}`)
}
const { user, system } = process.cpuUsage(began)
const each = (user + system) / 1000 / seeds
console.log(`${seeds} seeds, ${each.toFixed(1)} ms of CPU and ${Math.round(turns / seeds)} turns each`)
for (const [invariant, count] of failed) console.log(`${count} violate "${invariant}"`)
process.exitCode = failed.size > 0 ? 1 : 0
