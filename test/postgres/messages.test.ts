import { afterAll, beforeAll, expect, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { type PostgresService, startPostgres } from '../support/services/postgres.ts'
import { until, within } from '../support/wait.ts'
import { admin, newSchema, openStore } from './support.ts'

let service: PostgresService
let client: Awaited<ReturnType<typeof admin>>
beforeAll(async () => {
  service = await startPostgres({ own: true })
  client = await admin(service.url)
})
afterAll(() => service.stop())

async function opened(timeout = 5000) {
  const schema = newSchema()
  const store = await openStore({ url: service.url, schema, timeout })
  const heard: (string | undefined)[] = []
  await store.bus.receive('n', (message) => heard.push(message && Buffer.from(message).toString('latin1')))
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, 60_000)
  return { schema, store, heard }
}

async function configure(setting: string): Promise<void> {
  await client.query(`ALTER SYSTEM SET ${setting}`)
  await client.query('SELECT pg_reload_conf()')
}

test('messages and wake-ups do not wait for what durability waits for; events do', async () => {
  const { store, heard } = await opened(1500)
  const event = { streamId: 'a', kind: 'message', payload: '{}' } as const
  const append = () => store.log.append({ sessionId: 's', events: [event], ttl: 60_000 })
  await append()
  // Every commit that is to be durable now waits for a replica that never comes.
  await configure(`synchronous_standby_names = 'nobody'`)
  try {
    await until('appends to wait', async () => {
      const refused = await append().then(
        () => false,
        (error) => isPersistError(error, 'STORE_UNAVAILABLE'),
      )
      return refused
    })
    const large = 'x'.repeat(50_000)
    const sent = Promise.all([
      store.bus.send('n', Buffer.from('small')),
      store.bus.send('n', Buffer.from(large)),
    ])
    expect(await within('what is sent', sent, 1000)).toEqual([true, true])
    await within('what is published', store.bus.publish('c', 'text'), 1000)
    await until('both to arrive', () => heard.includes('small') && heard.includes(large))
  } finally {
    await configure(`synchronous_standby_names = ''`)
  }
  await store.close()
}, 40_000)

test('what fits into a notification leaves no row, and equal messages are not taken for one', async () => {
  const { schema, store, heard } = await opened()
  const rows = async () =>
    Number(
      (
        await client.query(
          `SELECT n_tup_ins AS n FROM pg_stat_user_tables
    WHERE schemaname = $1 AND relname = 'mcp_parcels'`,
          [schema],
        )
      ).rows[0].n,
    )
  const sizes = [0, 1, 100, 5_000, 5_970]
  for (const size of sizes) await store.bus.send('n', Buffer.alloc(size, 0xff))
  await Promise.all(Array.from({ length: 50 }, () => store.bus.send('n', Buffer.from('again'))))
  await until('all to arrive', () => heard.filter((text) => text === 'again').length === 50)
  for (const size of sizes) expect(heard).toContain('\xff'.repeat(size))
  await store.bus.send('n', Buffer.alloc(5_971, 0xff))
  await until('the large one to arrive', () => heard.includes('\xff'.repeat(5_971)))
  const { rows: left } = await client.query(`SELECT count(*)::int AS n FROM ${schema}.mcp_parcels`)
  expect(left[0].n).toBe(0)
  // What connections have counted is there for others when they have ended, and the server takes its time to end them.
  await store.close()
  await until('what was inserted to be counted', async () => (await rows()) > 0)
  expect(await rows(), 'one parcel').toBe(1)
})

test('a parcel that was lost is told as something missed', async () => {
  const { schema, store, heard } = await opened()
  await client.query(`CREATE FUNCTION ${schema}.lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER lose BEFORE INSERT ON ${schema}.mcp_parcels FOR EACH ROW EXECUTE FUNCTION ${schema}.lose()`)
  await store.bus.send('n', Buffer.alloc(10_000))
  await until('the receiver to be told', () => heard.length > 0)
  expect(heard).toEqual([undefined])
  await store.close()
})
