import { ALL_INGREDIENTS } from './ingredients.ts'
import { loadSource } from './load-source.ts'
import { run } from './run.ts'

const source = await loadSource()
const seeds = Number(process.argv[2] ?? 60)
for (const i of ALL_INGREDIENTS) {
  const seen = new Map<string, string>()
  let n = 0
  const b = process.cpuUsage()
  for (let seed = 1; seed <= seeds; seed++) {
    const r = await run({ source, seed, with: [i], only: [i] })
    if (r.violations.length) {
      n++
      const v = r.violations[0]!
      if (!seen.has(v.invariant)) seen.set(v.invariant, `seed ${seed}: ${v.message.slice(0, 200)}`)
    }
  }
  const c = process.cpuUsage(b)
  console.log(`${i}: ${n}/${seeds} ${((c.user + c.system) / 1000 / seeds).toFixed(1)}ms`)
  for (const [k, v] of seen) console.log(`     ${k}: ${v}`)
}
