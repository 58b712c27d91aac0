import { afterAll, beforeAll, inject, test } from 'vitest'
import { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { storeContract } from '../../src/testing.ts'
import { admin, newSchema, openStore, quiet } from '../postgres/support.ts'
import { TcpProxy } from '../support/net/tcp-proxy.ts'

let schema: string
let client: Awaited<ReturnType<typeof admin>>
let proxy: TcpProxy

beforeAll(async () => {
  client = await admin(inject('postgresUrl'))
  proxy = await TcpProxy.to(inject('postgresUrl'), 5432)
})
afterAll(() => proxy.close())

const url = () => proxy.urlOf(inject('postgresUrl'))

/** Every table as it is now; the function brings the rows back in one transaction, as a failover does. */
async function snapshot(): Promise<() => Promise<void>> {
  const { rows } = await client.query(
    `SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'mcp_migrations'`,
    [schema],
  )
  const tables: string[] = rows.map(({ tablename }) => tablename)
  const kept = (table: string) => `kept_${schema}_${table}`
  for (const table of tables)
    await client.query(`CREATE TEMP TABLE ${kept(table)} AS TABLE ${schema}.${table}`)
  return async () => {
    await client.query('BEGIN')
    await client.query(`TRUNCATE ${tables.map((table) => `${schema}.${table}`).join(', ')}`)
    // No table before the one that it refers to.
    await client.query('SET LOCAL session_replication_role = replica')
    for (const table of tables) {
      await client.query(`INSERT INTO ${schema}.${table} OVERRIDING SYSTEM VALUE TABLE ${kept(table)}`)
    }
    await client.query('COMMIT')
  }
}

storeContract({
  test,
  async open() {
    if (schema) await client.query(`DROP SCHEMA ${schema} CASCADE`)
    schema = newSchema()
    return openStore({ url: url(), schema })
  },
  second: () => new PostgresEventStore({ url: url(), schema, logger: quiet }),
  cut: (what) => proxy.cut(what),
  snapshot,
  parcels: {
    count: async () =>
      Number((await client.query(`SELECT count(*) AS n FROM ${schema}.mcp_parcels`)).rows[0].n),
    age: async () => void (await client.query(`UPDATE ${schema}.mcp_parcels SET expires_at = now()`)),
  },
  async corrupt(sessionId, position) {
    await client.query(
      `UPDATE ${schema}.mcp_events SET payload = E'\\x01?' || payload
       WHERE position = $2 AND log_id = (SELECT log_id FROM ${schema}.mcp_logs WHERE session_id = $1)`,
      [sessionId, position],
    )
  },
})
