import { PersistError } from '../../errors.ts'
import type { StoreHealth } from '../port.ts'
import { loadMigrations } from './load.ts'
import type { AppliedMigration, Migration, MigrationTarget } from './target.ts'

export interface MigrateOptions {
  /** Leave out what only session records need. Default false. */
  readonly eventsOnly?: boolean
  /** Called after each migration that this call applied. */
  readonly onApplied?: (migration: Migration) => void
  /** Instead of the files of the package. */
  readonly migrations?: readonly Migration[]
}

export interface MigrationPlan {
  readonly applied: readonly AppliedMigration[]
  /** Of a later release, whose migrations say that this one can go on. */
  readonly newer: readonly AppliedMigration[]
  /** In the order in which they will be applied, with their SQL: what a dry run shows. */
  readonly pending: readonly Migration[]
}

export interface MigrationStatus {
  readonly name: string
  readonly part: Migration['part']
  /** Milliseconds since the Unix epoch; undefined: pending. */
  readonly appliedAt: number | undefined
}

/**
 * What there is to do; changes nothing.
 *
 * @throws PersistError `SCHEMA_TOO_NEW` when the database has a migration that this release neither knows nor can go on with,
 * `MIGRATION_CHANGED` when an applied one differs from its file.
 * @example
 * const { pending } = await planMigrations(target)
 * console.log(pending.map(({ sql }) => sql).join('\n'))
 */
export async function planMigrations(
  target: MigrationTarget,
  { eventsOnly = false, migrations = loadMigrations(target.dialect) }: MigrateOptions = {},
): Promise<MigrationPlan> {
  const applied = await target.applied()
  const known = new Map(migrations.map((migration) => [migration.name, migration]))
  const newer = applied.filter(({ name }) => !known.has(name))
  const latest = migrations.at(-1)?.name ?? ''
  for (const { name, compatible } of newer) {
    if (compatible !== null && latest >= compatible) continue
    throw new PersistError(
      'SCHEMA_TOO_NEW',
      `The database has migration ${name}, which this release of mcp-persist does not know; upgrade the package.`,
    )
  }
  for (const { name, checksum } of applied) {
    const migration = known.get(name)
    if (migration && migration.checksum !== checksum) {
      throw new PersistError(
        'MIGRATION_CHANGED',
        `Migration ${name} was applied with other contents than its file has now; reinstall mcp-persist.`,
      )
    }
  }
  const done = new Set(applied.map(({ name }) => name))
  const pending = migrations.filter(
    ({ name, part }) => !done.has(name) && !(eventsOnly && part === 'sessions'),
  )
  return { applied, newer, pending }
}

/** What `health()` says of the migrations. */
export async function migrationHealth(
  target: MigrationTarget,
): Promise<NonNullable<StoreHealth['migrations']>> {
  const names = (migrations: readonly { readonly name: string }[]) => migrations.map(({ name }) => name)
  const { applied, newer, pending } = await planMigrations(target)
  return { applied: names(applied), newer: names(newer), pending: names(pending) }
}

/** Applies what is pending, one transaction each; resolves with what this call, and no other process, applied. */
export async function applyMigrations(
  target: MigrationTarget,
  options: MigrateOptions = {},
): Promise<readonly Migration[]> {
  const { pending } = await planMigrations(target, options)
  const applied: Migration[] = []
  for (const migration of pending) {
    if (!(await target.apply(migration))) continue
    applied.push(migration)
    options.onApplied?.(migration)
  }
  return applied
}

/** Every migration of this package, applied or pending. Throws as {@link planMigrations} does. */
export async function migrationStatus(
  target: MigrationTarget,
  { migrations = loadMigrations(target.dialect) }: Pick<MigrateOptions, 'migrations'> = {},
): Promise<readonly MigrationStatus[]> {
  const { applied } = await planMigrations(target, { migrations })
  const times = new Map(applied.map(({ name, appliedAt }) => [name, appliedAt]))
  return migrations.map(({ name, part }) => ({ name, part, appliedAt: times.get(name) }))
}
