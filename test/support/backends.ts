import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { inject } from 'vitest'
import { PostgresEventStore } from '../../src/index.ts'

/** What several nodes can share. */
export const backends = ['sqlite', 'redis', 'redis-cluster', 'postgres'] as const
export type Backend = (typeof backends)[number]

/** A place in a store that nobody else uses. */
export interface StoreSpace {
  /** For any number of stores, in any number of processes. */
  readonly url: string
  /** Redis forgets by itself. */
  remove(): Promise<void>
}

/** A database file, a key prefix, or a migrated schema of one's own. */
export async function storeSpace(backend: Backend): Promise<StoreSpace> {
  const name = `test_${randomBytes(6).toString('hex')}`
  switch (backend) {
    case 'sqlite': {
      const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-space-'))
      const remove = () => rm(folder, { recursive: true, force: true })
      return { url: `sqlite:${join(folder, 'mcp.db')}`, remove }
    }
    case 'redis':
      return { url: `${inject('redisUrl')}?keyPrefix=${name}:`, remove: async () => {} }
    case 'redis-cluster':
      return { url: `${inject('redisClusterUrl')}?keyPrefix=${name}:`, remove: async () => {} }
    case 'postgres':
      return postgresSpace(inject('postgresUrl'), name)
  }
}

/** A migrated schema of a server. */
export async function postgresSpace(server: string, schema: string): Promise<StoreSpace> {
  const url = new URL(server)
  url.searchParams.set('schema', schema)
  const store = new PostgresEventStore({ url: url.toString(), autoMigrate: true })
  await store.ready()
  await store.close()
  const remove = async () => {
    const client = new pg.Client({ connectionString: server })
    await client.connect()
    await client.query(`DROP SCHEMA "${schema}" CASCADE`)
    await client.end()
  }
  return { url: url.toString(), remove }
}
