import { expect, test } from 'vitest'
import { migrationHealth, planMigrations } from '../../src/store/migrations/migrate.ts'
import type { AppliedMigration, Migration, MigrationTarget } from '../../src/store/migrations/target.ts'

const migration = (name: string): Migration => ({
  name,
  part: 'events',
  compatible: null,
  sql: '',
  checksum: name,
})
const applied = (name: string, compatible: string | null = null): AppliedMigration => ({
  name,
  compatible,
  checksum: name,
  appliedAt: 0,
})

/** A database in which these have been applied. */
function database(...rows: AppliedMigration[]): MigrationTarget {
  return { dialect: 'sqlite', applied: async () => rows, apply: async () => false }
}

const KNOWN = [migration('0001_one'), migration('0002_two')]

test.each([
  ['the release before may go on', [applied('0003_three', '0002')], ['0003_three']],
  ['so may one before that, where the migration says so', [applied('0003_three', '0001')], ['0003_three']],
  [
    'of several each must say so',
    [applied('0003_three', '0002'), applied('0004_four', '0002')],
    ['0003_three', '0004_four'],
  ],
])('a later migration: %s', async (_, later, newer) => {
  const target = database(applied('0001_one'), applied('0002_two'), ...later)
  const plan = await planMigrations(target, { migrations: KNOWN })
  expect(plan.newer.map(({ name }) => name)).toEqual(newer)
  expect(plan.pending).toEqual([])
})

test.each([
  ['that says nothing', [applied('0003_three')], '0003_three'],
  ['that needs another which this release does not know either', [applied('0004_four', '0003')], '0004_four'],
  ['one of two that do not fit', [applied('0003_three', '0002'), applied('0004_four', '0003')], '0004_four'],
])('a later migration %s keeps this release out', async (_, later, name) => {
  const target = database(applied('0001_one'), applied('0002_two'), ...later)
  const plan = planMigrations(target, { migrations: KNOWN })
  await expect(plan).rejects.toMatchObject({
    code: 'SCHEMA_TOO_NEW',
    message: `The database has migration ${name}, which this release of mcp-persist does not know; upgrade the package.`,
  })
})

test('health names them', async () => {
  const { applied: all, newer } = await migrationHealth(database(applied('9999_later', '0001')))
  expect([all, newer]).toEqual([['9999_later'], ['9999_later']])
})
