import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll } from 'vitest'
import {
  PostgresEventStore,
  type PostgresEventStoreOptions,
} from '../../src/store/postgres/postgres-store.ts'

export const quiet = { debug() {}, info() {}, warn() {}, error() {} }

/** One connection of the test's own, for looking and for making trouble. Ended after the last test of the file. */
export async function admin(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'admin' })
  client.on('error', () => {})
  await client.connect()
  afterAll(() => client.end().catch(() => {}))
  return client
}

/** A schema name that nobody has used. */
export function newSchema(): string {
  return `test_${randomBytes(6).toString('hex')}`
}

export function withSchema(url: string, schema: string): string {
  const parsed = new URL(url)
  parsed.searchParams.set('schema', schema)
  return parsed.toString()
}

/** A store over a migrated schema. */
export async function openStore(
  options: PostgresEventStoreOptions,
  { migrate = true } = {},
): Promise<PostgresEventStore> {
  const store = new PostgresEventStore({ logger: quiet, autoMigrate: migrate, ...options })
  await store.ready()
  return store
}
