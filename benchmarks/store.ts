// The stores, each beside the least that its driver can do and beside the form that is usually written. Exits with 1
// when an acknowledged event is lost, doubled or out of order.
// `store.ts [--once] [--backend sqlite|redis|postgres] [--only append|replay|first|bytes|sweep]`
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { append } from './support/append.ts'
import { bytes } from './support/bytes.ts'
import type { Setting } from './support/form.ts'
import { postgres } from './support/postgres-forms.ts'
import { redis } from './support/redis-forms.ts'
import { first, replay } from './support/replay.ts'
import { sqlite } from './support/sqlite-forms.ts'
import { sweep } from './support/sweep.ts'
import { formatTable, type Table } from './support/table.ts'

const { values } = parseArgs({
  options: { once: { type: 'boolean' }, backend: { type: 'string' }, only: { type: 'string' } },
})
const once = values.once === true

/** How each is opened, and its durability settings. Only appending depends on these. */
const BACKENDS = {
  sqlite: { open: sqlite, durabilities: ['normal', 'full'] },
  redis: { open: redis, durabilities: ['none', 'everysec'] },
  postgres: { open: postgres, durabilities: ['on', 'off'] },
}

const rounds = once ? 1 : 7
const appendSize = once
  ? { sessions: 256, rounds, events: { 1: 20, 32: 100, 256: 300 } }
  : { sessions: 2000, rounds, events: { 1: 2000, 32: 10_000, 256: 20_000 } }
const replaySize = { rounds, events: once ? [100, 600] : [100, 1000, 10_000] }
const bytesSize = once ? { events: 300, perSession: [3, 30] } : { events: 20_000, perSession: [3, 20, 200] }
const sweepSize = once ? { events: 5000, appends: 100 } : { events: 1_000_000, appends: 2000 }

const WORKLOADS: Record<string, (setting: Setting) => Promise<Table>> = {
  append: (setting) => append(setting, appendSize),
  replay: (setting) => replay(setting, replaySize),
  first: (setting) => first(setting, replaySize),
  bytes: (setting) => bytes(setting, bytesSize),
  sweep: (setting) => sweep(setting, sweepSize),
}

const workloads = pick('only', WORKLOADS, values.only)
const backends = pick('backend', BACKENDS, values.backend)
const opened = new Map<string, Setting>()
try {
  const [cpu] = cpus()
  const facts = `${cpus().length} cores (${cpu?.model}), node ${process.version}`
  console.log(`${facts}; medians of ${rounds} rounds. Every event acknowledged was read back, once.`)
  for (const [name, run] of workloads) {
    const titles: string[] = []
    let whole: Table | undefined
    for (const [backend, { open, durabilities }] of backends) {
      for (const durability of name === 'append' && !once ? durabilities : durabilities.slice(0, 1)) {
        // Each workload begins with nothing stored; only a trial run saves the time.
        const key = `${backend} ${durability}${once ? '' : name}`
        const setting = opened.get(key) ?? (await open(durability))
        opened.set(key, setting)
        titles.push(setting.title)
        if (!once) console.error(`${name}: ${setting.title} …`)
        const { head, rows } = await run(setting)
        whole = { head, rows: [...(whole?.rows ?? []), ...rows] }
        if (!once) await close(key, setting)
      }
    }
    console.log(`\n${titles.join('; ')}\n\n${formatTable(whole!)}`)
  }
} finally {
  for (const [key, setting] of opened) await close(key, setting)
}

async function close(key: string, setting: Setting): Promise<void> {
  opened.delete(key)
  await setting.close()
}

function pick<T>(option: string, all: Record<string, T>, name: string | undefined): [string, T][] {
  const picked = Object.entries(all).filter(([each]) => name === undefined || each === name)
  if (picked.length > 0) return picked
  console.error(`--${option} is one of ${Object.keys(all).join(', ')}, not '${name}'.`)
  process.exit(2)
}
