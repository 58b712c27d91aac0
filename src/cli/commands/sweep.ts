import type { Command } from 'commander'
import type { SweepResult } from '../../store/port.ts'
import type { Store } from '../../store/store.ts'
import { interrupted, stopped } from '../interrupt.ts'
import { count, print } from '../output.ts'
import { Progress } from '../progress.ts'
import { storeUrl, URL_HELP } from '../store-url.ts'
import { withStore } from '../with-store.ts'

interface Options {
  url?: string
  json?: boolean
  dryRun?: boolean
}

/** A dry run counts no further. */
const COUNTED = 1_000_000
/** Steps in a row that find nothing they may delete, for instance because others sweep the same rows just now. */
const IDLE_STEPS = 1_000

export function addSweep(program: Command): void {
  program
    .command('sweep')
    .description('delete what has expired, in bounded steps; servers do it by themselves, this is for cron')
    .option('--dry-run', 'delete nothing, say what would go')
    .option('--url <url>', URL_HELP)
    .option('--json', 'one JSON document on stdout')
    .action(sweep)
}

async function sweep(options: Options): Promise<void> {
  const { dryRun = false } = options
  await withStore(storeUrl(options.url), { readonly: dryRun }, async (store) => {
    const { events, sessions, nodes, more } = dryRun
      ? await store.sweep({ dryRun, limit: COUNTED })
      : await sweepAll(store)
    const what = `${count(events, 'event')}, ${count(sessions, 'session')} and ${count(nodes, 'dead node')}`
    const line = dryRun ? `Would delete ${more ? 'at least ' : ''}${what}.` : `Deleted ${what}.`
    await print({ dryRun, events, sessions, nodes, more }, [line], options)
  })
}

async function sweepAll(store: Store): Promise<SweepResult> {
  const total = { events: 0, sessions: 0, nodes: 0, more: true }
  const progress = new Progress()
  try {
    for (let idle = 0; total.more && idle < IDLE_STEPS; ) {
      if (stopped()) throw interrupted()
      const step = await store.sweep()
      total.events += step.events
      total.sessions += step.sessions
      total.nodes += step.nodes
      total.more = step.more
      idle = step.events + step.sessions + step.nodes > 0 ? 0 : idle + 1
      progress.update(() => `Deleted ${count(total.events, 'event')}, ${count(total.sessions, 'session')} …`)
    }
    return total
  } finally {
    progress.end()
  }
}
