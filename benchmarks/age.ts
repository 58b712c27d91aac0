// Does anything get slower with age? Two stores of each backend take turns, round by round: one is fresh, the other has had
// so many events, messages between nodes and stored sessions. Exits with 1 when an event, a message or a session is lost,
// doubled or out of order.
// `age.ts [--once] [--store redis|postgres|sqlite] [--size 1000000]`
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { AGES, type Age } from './support/ages.ts'
import { median } from './support/load.ts'
import { OPERATIONS } from './support/operations.ts'
import { backendsBy, sharedStore } from './support/shared-store.ts'
import { formatTable, ms, ratio } from './support/table.ts'
import { startWorld, type World } from './support/world.ts'

const { values } = parseArgs({
  options: {
    once: { type: 'boolean' },
    store: { type: 'string' },
    size: { type: 'string', default: '1000000' },
  },
})
const once = values.once === true
const size = once ? 2_000 : Number(values.size)
if (!Number.isSafeInteger(size) || size < 1_000) {
  console.error(`--size is a number from 1000 on, not '${values.size}'.`)
  process.exit(2)
}

const titles: string[] = []
const rows: string[][] = []
for (const backend of backendsBy(values.store)) {
  const [one, other] = [await sharedStore(backend), await sharedStore(backend)]
  titles.push(one.title)
  try {
    const worlds = { fresh: await startWorld(one.url), aged: await startWorld(other.url) }
    try {
      rows.push(...(await compare(backend, worlds)))
    } finally {
      await worlds.fresh.close()
      await worlds.aged.close()
    }
  } finally {
    await one.close()
    await other.close()
  }
}

const [cpu] = cpus()
const facts = `${cpus().length} cores (${cpu?.model}), node ${process.version}`
const made = `${size.toLocaleString('en')} of each, one kind after the other`
console.log(`${facts}; medians of 5 to 25 rounds. Nothing was lost or doubled.\n`)
console.log(`${titles.join('; ')}; ${made}; aged / fresh\n`)
console.log(formatTable({ head: ['age', 'fresh ms', ...Object.keys(AGES)], rows }))

type Worlds = Readonly<Record<'fresh' | 'aged', World>>

/** A row for each operation: what it takes in the fresh store, and how many times that in the other at each age. */
async function compare(backend: string, worlds: Worlds): Promise<string[][]> {
  const fresh = new Map<string, number[]>()
  const ratios = new Map<string, string[]>()
  for (const [name, age] of Object.entries(AGES) as [string, Age][]) {
    if (age.only !== undefined && age.only !== backend) {
      for (const operation of Object.keys(OPERATIONS)) note(ratios, operation, '')
      continue
    }
    if (!once) console.error(`${backend}: ${name} …`)
    const end = await age.make(worlds.aged, size)
    for (const [operation, { rounds: many = 25, run }] of Object.entries(OPERATIONS)) {
      const rounds = once ? 1 : many
      const found: { fresh: number; aged: number }[] = []
      for (let round = 0; round <= rounds; round += 1) {
        const times = { fresh: 0, aged: 0 }
        // Who comes second finds warmer caches, or a machine that is busy with what the first left: turn by turn.
        const order = round % 2 === 0 ? (['fresh', 'aged'] as const) : (['aged', 'fresh'] as const)
        for (const which of order) times[which] = await run(worlds[which], once)
        // The first round warms both up.
        if (round > 0) found.push(times)
      }
      for (const { fresh: time } of found) note(fresh, operation, time)
      note(ratios, operation, ratio(median(found.map((times) => times.aged / times.fresh))))
    }
    await end?.()
    for (const world of Object.values(worlds)) await world.check()
  }
  return Object.keys(OPERATIONS).map((operation) => {
    const time = ms(median(fresh.get(operation)!))
    return [`${backend}, ${operation}`, time, ...ratios.get(operation)!]
  })
}

function note<T>(lists: Map<string, T[]>, name: string, value: T): void {
  const list = lists.get(name)
  if (list) list.push(value)
  else lists.set(name, [value])
}
