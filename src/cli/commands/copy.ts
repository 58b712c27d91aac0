import type { Command } from 'commander'
import { maskUrl, PersistError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import { copyStore } from '../copy-store.ts'
import { count, print } from '../output.ts'
import { Progress } from '../progress.ts'
import { storeUrl } from '../store-url.ts'
import { READ_ONLY, withStore } from '../with-store.ts'

interface Options {
  from: string
  to: string
  json?: boolean
}

export function addCopy(program: Command): void {
  program
    .command('copy')
    .description(
      'copy sessions and events to another store, so that clients can resume there; can be run again',
    )
    .requiredOption('--from <url>', 'the store to copy; it is not changed')
    .requiredOption('--to <url>', 'the store to copy to')
    .option('--json', 'one JSON document on stdout')
    .action(copy)
}

async function copy(options: Options): Promise<void> {
  const from = storeUrl(options.from, '--from')
  const to = storeUrl(options.to, '--to')
  if (from === to) throw new PersistError('INVALID_ARGUMENT', '--from and --to name the same store.')
  // An SQLite file is made and migrated; PostgreSQL is migrated by `migrate`.
  const target = /^sqlite:/i.test(to) ? { autoMigrate: true } : {}
  await withStore(from, READ_ONLY, (source) =>
    withStore(to, target, (destination) => run(source, destination, options)),
  )
}

async function run(source: Store, destination: Store, options: Options): Promise<void> {
  await destination.ready()
  const total = (await source.stats()).sessions
  const progress = new Progress()
  const result = await copyStore(source, destination, (done) =>
    progress.update(
      () => `${Progress.bar(done.sessions, total)}${describe(done.sessions, done.logs, done.events)}`,
    ),
  ).finally(() => progress.end())
  const { sessions, logs, events, undecodable, leftAlone, unverified, ended } = result
  const document = { from: maskUrl(options.from), to: maskUrl(options.to), ...result }
  const line = `Copied and verified ${describe(sessions, logs, events)}.`
  const lines = ended > 0 ? [line, `Terminated ${count(ended, 'session')}, as the source has.`] : [line]
  await print(document, lines, options)
  const problems = [
    undecodable > 0 &&
      `${count(undecodable, 'event')} could not be decoded and ${undecodable === 1 ? 'was' : 'were'} left out`,
    leftAlone > 0 && `${count(leftAlone, 'session')} went on by itself at the destination and was left alone`,
    unverified > 0 && `${count(unverified, 'session')} read back otherwise than it was copied`,
  ].filter((problem) => problem !== false)
  if (problems.length === 0) return
  process.exitCode = 1
  process.stderr.write(`error: The copy is not complete: ${problems.join('; ')}.\n`)
}

function describe(sessions: number, logs: number, events: number): string {
  const others = logs - sessions
  const plain = others > 0 ? `, ${count(others, 'log')} without a session record` : ''
  return `${count(sessions, 'session')}${plain} and ${count(events, 'event')}`
}
