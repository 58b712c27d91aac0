import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openStore } from 'mcp-persist'
import pg from 'pg'
import { startPostgres } from '../../test/support/services/postgres.ts'
import { startRedis } from '../../test/support/services/redis.ts'

/** A store for several processes, with nothing in it. */
export interface SharedStore {
  readonly url: string
  /** Name, version and durability. */
  readonly title: string
  /** Ends it, and removes what was in it. */
  close(): Promise<void>
}

export const BACKENDS = ['redis', 'postgres', 'sqlite'] as const
export type Backend = (typeof BACKENDS)[number]

/** What the option `--store` names, or all of them. Ends the process where it names none. */
export function backendsBy(store: string | undefined): readonly Backend[] {
  const backends = BACKENDS.filter((each) => store === undefined || each === store)
  if (backends.length > 0) return backends
  console.error(`--store is one of ${BACKENDS.join(', ')}, not '${store}'.`)
  process.exit(2)
}

/** As they come: SQLite with `synchronous=normal`, Redis without an append-only file, PostgreSQL with `fsync`. */
export async function sharedStore(backend: Backend): Promise<SharedStore> {
  const { url, durability, close } = await start[backend]()
  const store = openStore(url)
  const { version = '?' } = await store.health()
  await store.close()
  return { url, title: `${backend} ${version} (${durability})`, close }
}

const start = {
  async sqlite() {
    const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-bench-'))
    const close = async () => rmSync(folder, { recursive: true, force: true })
    return { url: `sqlite:${join(folder, 'bench.db')}`, durability: 'synchronous=normal', close }
  },
  async redis() {
    const service = await startRedis()
    return { url: service.url, durability: 'appendonly=no', close: () => service.stop() }
  },
  async postgres() {
    const service = await startPostgres({ fsync: true })
    // The server may be one that was given: everything stays in a schema of its own.
    const schema = `bench_${randomBytes(6).toString('hex')}`
    const url = new URL(service.url)
    url.searchParams.set('schema', schema)
    const store = openStore(url.toString(), { autoMigrate: true })
    await store.ready()
    await store.close()
    const client = new pg.Client(service.url)
    await client.connect()
    const show = async (name: string) => (await client.query(`SHOW ${name}`)).rows[0]![name] as string
    const durability = `synchronous_commit=${await show('synchronous_commit')}, fsync=${await show('fsync')}`
    await client.end()
    const close = async () => {
      const last = new pg.Client(service.url)
      await last.connect()
      await last.query(`DROP SCHEMA ${schema} CASCADE`)
      await last.end()
      await service.stop()
    }
    return { url: url.toString(), durability, close }
  },
}
