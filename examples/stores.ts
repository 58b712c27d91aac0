// Every way to name a store. A URL is enough for most; an object takes the options of its backend.
import {
  openStore,
  PostgresEventStore,
  RedisEventStore,
  SqliteEventStore,
  withPersistence,
} from 'mcp-persist'
import { buildServer } from './countdown.ts'

export const sqlite = new SqliteEventStore({ path: 'mcp.db', durability: 'full' })

export const redis = new RedisEventStore({ url: 'redis://localhost:6379', keyPrefix: 'my-app:' })

export const postgres = new PostgresEventStore({
  url: 'postgres://app:secret@pgbouncer:6432/app',
  listenUrl: 'postgres://app:secret@postgres:5432/app',
  schema: 'mcp',
})

/** A store given as an object stays yours: it can be asked, shared, and is yours to close. */
export async function serveWithStore(url: string): Promise<() => Promise<void>> {
  const store = openStore(url)
  await store.ready()
  const server = withPersistence(() => buildServer(), store, 3600)
  server.listen(3000)
  return async () => {
    await server.close()
    await store.close()
  }
}
