import { beforeAll, inject, test } from 'vitest'
import { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { storeContract } from '../../src/testing.ts'
import { admin, newSchema, openStore, quiet } from '../postgres/support.ts'

let schema: string
let client: Awaited<ReturnType<typeof admin>>

beforeAll(async () => {
  client = await admin(inject('postgresUrl'))
})

storeContract({
  test,
  async open() {
    if (schema) await client.query(`DROP SCHEMA ${schema} CASCADE`)
    schema = newSchema()
    return openStore({ url: inject('postgresUrl'), schema })
  },
  second: () => new PostgresEventStore({ url: inject('postgresUrl'), schema, logger: quiet }),
  async corrupt(sessionId, position) {
    await client.query(
      `UPDATE ${schema}.mcp_events SET payload = E'\\x01?' || payload
       WHERE position = $2 AND log_id = (SELECT log_id FROM ${schema}.mcp_logs WHERE session_id = $1)`,
      [sessionId, position],
    )
  },
})
