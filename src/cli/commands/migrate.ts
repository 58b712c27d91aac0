import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { maskUrl, PersistError } from '../../errors.ts'
import { applyMigrations, migrationStatus, planMigrations } from '../../store/migrations/migrate.ts'
import type { MigrationTarget } from '../../store/migrations/target.ts'
import { openStore } from '../../store/open-store.ts'
import type { Store } from '../../store/store.ts'
import { paint, print, printLine, table, time } from '../output.ts'
import { sqliteFile, storeUrl, URL_HELP } from '../store-url.ts'
import { closing } from '../with-store.ts'

interface Options {
  url?: string
  json?: boolean
  status?: boolean
  dryRun?: boolean
  eventsOnly?: boolean
  schema?: string
}

export function addMigrate(program: Command): void {
  program
    .command('migrate')
    .description('bring the schema of the database up to date; safe to run on many machines at once')
    .option('--status', 'only list what is applied and what is pending')
    .option('--dry-run', 'change nothing, print the SQL that would be run')
    .option('--events-only', 'leave out what only session records need')
    .option('--schema <name>', 'PostgreSQL: the schema that holds the tables')
    .option('--url <url>', URL_HELP)
    .option('--json', 'one JSON document on stdout')
    .action(migrate)
}

async function migrate(options: Options): Promise<void> {
  const url = withSchema(storeUrl(options.url), options.schema)
  const looks = options.status === true || options.dryRun === true
  const store = openStore(url, { autoMigrate: false, readonly: looks })
  await closing(store, async () => {
    const target = targetOf(store, url, looks)
    if (!target) await checkLayout(store, options)
    else if (options.status) await status(target, options)
    else if (options.dryRun) await dryRun(target, options)
    else await apply(target, options)
  })
}

/** Undefined: a backend without SQL. */
function targetOf(store: Store, url: string, looks: boolean): MigrationTarget | undefined {
  const file = sqliteFile(url)
  // Looking at a file that is not there must not create it.
  if (looks && file !== undefined && !existsSync(file)) {
    return { dialect: 'sqlite', applied: async () => [], apply: async () => false }
  }
  return (store as { migrations?: MigrationTarget }).migrations
}

function withSchema(url: string, schema: string | undefined): string {
  if (schema === undefined) return url
  if (!/^postgres(ql)?:/i.test(url) || !URL.canParse(url)) {
    throw new PersistError(
      'INVALID_ARGUMENT',
      `--schema is for PostgreSQL, and the store is ${maskUrl(url)}.`,
    )
  }
  const parsed = new URL(url)
  parsed.searchParams.set('schema', schema)
  return parsed.toString()
}

async function status(target: MigrationTarget, options: Options): Promise<void> {
  const migrations = await migrationStatus(target)
  const rows = migrations.map(({ name, part, appliedAt }) => [
    name,
    part,
    appliedAt === undefined ? 'pending' : time(appliedAt),
  ])
  const document = migrations.map(({ appliedAt = null, ...migration }) => ({ ...migration, appliedAt }))
  await print({ migrations: document }, table([['MIGRATION', 'PART', 'APPLIED'], ...rows]), options)
}

async function dryRun(target: MigrationTarget, options: Options): Promise<void> {
  const { pending } = await planMigrations(target, { eventsOnly: options.eventsOnly === true })
  const lines = pending.flatMap(({ name, sql }) => [`-- ${name}`, sql.trimEnd(), ''])
  if (pending.length === 0) lines.push('-- Nothing is pending.')
  await print({ pending: pending.map(({ name, part, sql }) => ({ name, part, sql })) }, lines, options)
}

async function apply(target: MigrationTarget, options: Options): Promise<void> {
  const report: Promise<void>[] = []
  const onApplied = ({ name }: { name: string }) => {
    if (!options.json) report.push(printLine(`${paint('green', 'applied')} ${name}`))
  }
  const applied = await applyMigrations(target, { eventsOnly: options.eventsOnly === true, onApplied })
  await Promise.all(report)
  const names = applied.map(({ name }) => name)
  await print({ applied: names }, names.length === 0 ? ['Up to date; nothing was pending.'] : [], options)
}

/** Redis has no schema; what can be wrong is the layout of the data. */
async function checkLayout(store: Store, options: Options): Promise<void> {
  const { ok, migrations, error } = await store.health()
  if (!ok)
    throw new PersistError('STORE_UNAVAILABLE', maskUrl(error ?? 'The store failed without saying why.'))
  const layout = migrations?.applied[0] ?? null
  const line = `${store.backend} needs no migration: ${layout ?? 'nothing is stored yet'}.`
  await print({ applied: [], pending: [], layout }, [line], options)
}
