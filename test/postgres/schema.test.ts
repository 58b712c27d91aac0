import pg from 'pg'
import { beforeAll, expect, inject, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { loadMigrations } from '../../src/store/migrations/load.ts'
import { applyMigrations, migrationStatus, planMigrations } from '../../src/store/migrations/migrate.ts'
import {
  PostgresEventStore,
  type PostgresEventStoreOptions,
} from '../../src/store/postgres/postgres-store.ts'
import { admin, newSchema, openStore, quiet, withSchema } from './support.ts'

let client: pg.Client
beforeAll(async () => {
  client = await admin(inject('postgresUrl'))
})

const event = { streamId: 'a', kind: 'message', payload: '{}' } as const
/** By name, in their order. */
const MIGRATIONS = loadMigrations('postgres').map(({ name }) => name)
const state = { initialize: '{}', protocolVersion: '2025-11-25' }
const open = (schema: string, more = {}) =>
  new PostgresEventStore({ url: withSchema(inject('postgresUrl'), schema), logger: quiet, ...more })

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return promise.then(
    () => Promise.reject(new Error('it resolved')),
    (error) => error,
  )
}

test('an unmigrated database is left alone, and the error names the command, without the password', async () => {
  const schema = newSchema()
  const url = new URL(inject('postgresUrl'))
  url.password = 'hunter2'
  const store = new PostgresEventStore({ url: url.toString(), schema, logger: quiet })
  for (const call of [
    () => store.ready(),
    () => store.log.append({ sessionId: 's', events: [event], ttl: 1000 }),
    () => store.sessions.get('s'),
    () => store.bus.send('n', Buffer.from('x')),
  ]) {
    const error = await rejection(call())
    expect(error.code).toBe('NOT_MIGRATED')
    expect(error.message).toContain('npx mcp-persist migrate --url')
    expect(error.message).not.toContain('hunter2')
  }
  const health = await store.health()
  expect(health.ok).toBe(false)
  expect(health.migrations).toEqual({ applied: [], newer: [], pending: MIGRATIONS })
  const { rows } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema])
  expect(rows).toHaveLength(0)
  // And once it is migrated by somebody else, the very same store goes on.
  const other = await openStore({ url: inject('postgresUrl'), schema })
  await store.log.append({ sessionId: 's', events: [event], ttl: 60_000 })
  await Promise.all([store.close(), other.close()])
})

test('twenty that migrate at once: each migration is applied once, and all twenty work', async () => {
  const schema = newSchema()
  const stores = Array.from({ length: 20 }, () => open(schema, { maxConnections: 2, timeout: 30_000 }))
  const applied = await Promise.all(stores.map((store) => applyMigrations(store.migrations)))
  expect(
    applied
      .flat()
      .map(({ name }) => name)
      .sort(),
  ).toEqual(MIGRATIONS)
  await Promise.all(stores.map((store) => store.log.append({ sessionId: 's', events: [event], ttl: 60_000 })))
  const status = await migrationStatus(stores[0]!.migrations)
  expect(status.every(({ appliedAt }) => Math.abs(appliedAt! - Date.now()) < 600_000)).toBe(true)
  await Promise.all(stores.map((store) => store.close()))
})

test('a migration that fails leaves nothing behind', async () => {
  const store = open(newSchema())
  const [first] = loadMigrations('postgres')
  const broken = { ...first!, sql: `${first!.sql}\nSELECT 1 / 0;` }
  await rejection(applyMigrations(store.migrations, { migrations: [broken] }))
  expect((await planMigrations(store.migrations)).applied).toEqual([])
  await applyMigrations(store.migrations)
  await store.ready()
  await store.close()
})

test('a newer database and a changed migration are refused with their own codes', async () => {
  const schema = newSchema()
  const store = await openStore({ url: inject('postgresUrl'), schema })
  await store.close()
  await client.query(`INSERT INTO ${schema}.mcp_migrations (name, checksum) VALUES ('0099_future', 'x')`)
  const newer = open(schema)
  expect(await rejection(newer.ready())).toMatchObject({
    code: 'SCHEMA_TOO_NEW',
    message:
      'The database has migration 0099_future, which this release of mcp-persist does not know; upgrade the package.',
  })
  await client.query(`DELETE FROM ${schema}.mcp_migrations WHERE name = '0099_future'`)
  await client.query(`UPDATE ${schema}.mcp_migrations SET checksum = 'x'`)
  expect((await rejection(newer.ready())).code).toBe('MIGRATION_CHANGED')
  await newer.close()
})

test('beside a later migration that says so this release goes on, whether it runs already or starts again', async () => {
  const schema = newSchema()
  const store = await openStore({ url: inject('postgresUrl'), schema })
  const append = (to: PostgresEventStore) => to.log.append({ sessionId: 's', events: [event], ttl: 60_000 })
  await append(store)
  const known = loadMigrations('postgres')
  const sql = 'ALTER TABLE mcp_events ADD COLUMN later text'
  const compatible = known.at(-1)!.name.slice(0, 4)
  const later = { ...known.at(-1)!, name: '0099_future', checksum: 'x', compatible, sql }
  await applyMigrations(store.migrations, { migrations: [...known, later] })
  await append(store)
  await store.close()
  const again = open(schema)
  await append(again)
  const { ok, migrations } = await again.health()
  expect([ok, migrations]).toEqual([
    true,
    { applied: [...MIGRATIONS, later.name], newer: [later.name], pending: [] },
  ])
  await again.close()
})

test('two schemas side by side, with names that need quoting, never meet', async () => {
  const names = [`${newSchema()} "; DROP TABLE x; --`, `Žluť'${newSchema()}`]
  const stores = await Promise.all(names.map((schema) => openStore({ url: inject('postgresUrl'), schema })))
  const heard: string[] = []
  for (const [i, store] of stores.entries()) {
    await store.log.append({ sessionId: 's', events: [{ ...event, payload: `${i}` }], ttl: 60_000 })
    await store.bus.subscribe('c', (text) => text !== undefined && heard.push(`${i} hears ${text}`))
    await store.nodes.register({ id: 'n', publicKey: `${i}`, profile: '' }, 60_000)
    await store.sessions.create({ id: 'x', principal: null, state, owner: 'n', ttl: 60_000 })
  }
  for (const [i, store] of stores.entries()) {
    const { events, last } = await store.log.read({ sessionId: 's', after: 0, limit: 10 })
    expect([events.map(({ payload }) => payload), last]).toEqual([[`${i}`], 1])
    expect((await store.nodes.get('n'))?.publicKey).toBe(`${i}`)
    await store.bus.publish('c', `${i}`)
    await store.bus.publish('c', 'end')
  }
  await stores[0]!.nodes.unregister('n')
  expect(await stores[1]!.nodes.get('n')).toBeDefined()
  expect((await stores[1]!.stats()).events).toBe(1)
  await Promise.all(stores.map((store) => store.sweep()))
  await Promise.all(stores.map((store) => store.close()))
  expect(heard.filter((line) => /^0 hears 1|^1 hears 0/.test(line))).toEqual([])
})

test('a role that may only read and write rows does all the work', async () => {
  const schema = newSchema()
  await (await openStore({ url: inject('postgresUrl'), schema })).close()
  const role = newSchema()
  await client.query(`CREATE ROLE ${role} LOGIN PASSWORD 'p';
    GRANT USAGE ON SCHEMA ${schema} TO ${role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO ${role}`)
  const url = new URL(inject('postgresUrl'))
  url.username = role
  url.password = 'p'
  const store = new PostgresEventStore({ url: url.toString(), schema, logger: quiet })
  const heard: (number | undefined)[] = []
  await store.bus.receive('n', (message) => heard.push(message?.length))
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, 60_000)
  const generation = await store.sessions.create({ id: 's', principal: null, state, owner: 'n', ttl: 60_000 })
  await store.log.append({ sessionId: 's', events: [event, event], generation, ttl: 60_000, limit: 1 })
  await store.log.append({ sessionId: 't', events: [event], ttl: 60_000 })
  expect(await store.bus.send('n', Buffer.alloc(10_000))).toBe(true)
  await expect.poll(() => heard).toEqual([10_000])
  expect(await store.sessions.claim('s', { owner: 'n', generation })).toBeDefined()
  expect(await store.sessions.terminate('s')).toBe(true)
  await store.log.delete('t')
  const { taskId } = await store.taskStore().createTask({}, 1, {}, 's')
  await store.taskStore().storeTaskResult(taskId, 'completed', {}, 's')
  await store.sweep()
  await store.stats()
  expect((await store.health()).ok).toBe(true)
  // What it may not do is said in a sentence.
  await client.query(`REVOKE INSERT ON ALL TABLES IN SCHEMA ${schema} FROM ${role}`)
  const refused = await rejection(store.log.append({ sessionId: 'u', events: [event], ttl: 60_000 }))
  expect(isPersistError(refused, 'STORE_READ_ONLY')).toBe(true)
  await store.close()
  await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
})

test('a role that was given rights on the tables has them on those that a later migration makes', async () => {
  const schema = newSchema()
  const [role, all] = [newSchema(), loadMigrations('postgres')]
  const owner = open(schema)
  await applyMigrations(owner.migrations, { migrations: all.slice(0, 3) })
  await client.query(`CREATE ROLE ${role} LOGIN PASSWORD 'p';
    GRANT USAGE ON SCHEMA ${schema} TO ${role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO ${role}`)
  await applyMigrations(owner.migrations)
  const url = new URL(inject('postgresUrl'))
  url.username = role
  url.password = 'p'
  const store = new PostgresEventStore({ url: url.toString(), schema, logger: quiet })
  await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, 60_000)
  expect(await store.bus.send('n', Buffer.alloc(10_000))).toBe(true)
  const generation = await store.sessions.create({ id: 's', principal: null, state, owner: 'n', ttl: 60_000 })
  const opens = { streamId: 'a', kind: 'open', payload: '{}' } as const
  await store.log.append({ sessionId: 's', events: [opens], generation, ttl: 60_000 })
  expect((await store.sessions.claim('s', { owner: 'n', generation }))?.open).toHaveLength(1)
  await store.tasks.create({ id: 't', sessionId: null, value: '{}', ttl: 60_000 })
  expect(await store.tasks.push('t', { text: 'x', limit: 1 })).toBe('queued')
  expect(await store.tasks.shift('t', { limit: 1 })).toEqual(['x'])
  await Promise.all([store.close(), owner.close()])
  await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
})

test('calls that ran when the database was migrated are known to be open', async () => {
  const schema = newSchema()
  const store = open(schema)
  await applyMigrations(store.migrations, { migrations: loadMigrations('postgres').slice(0, 3) })
  await client.query(`INSERT INTO ${schema}.mcp_sessions (id, epoch, state, generation, ttl)
    VALUES ('s', 'epoch', '${JSON.stringify(state)}', 1, 60000)`)
  await client.query(`INSERT INTO ${schema}.mcp_logs (session_id, log_id, epoch, generation, last, expires_at)
    VALUES ('s', 7, 'epoch', 1, 5, now() + interval '1 minute')`)
  const events = [
    ['ended', 0],
    ['runs', 0],
    ['ended', 1],
    ['runs', 1],
    ['ended', 2],
  ]
  for (const [i, [stream, kind]] of events.entries()) {
    await client.query(
      `INSERT INTO ${schema}.mcp_events VALUES (7, $1, $2, $3, $4, now() + interval '1 minute')`,
      [i + 1, stream, kind, `${i}`],
    )
  }
  await applyMigrations(store.migrations)
  const claimed = await store.sessions.claim('s', { owner: 'n', generation: 1 })
  expect(claimed?.open).toEqual([{ streamId: 'runs', payload: '1', runs: 1 }])
  const { positions } = await store.log.append({
    sessionId: 's',
    events: [event],
    generation: claimed!.generation,
    ttl: 60_000,
    limit: 3,
  })
  expect(positions[0]).toBeGreaterThan(5)
  expect((await store.log.read({ sessionId: 's', after: 0, limit: 10 })).events).toHaveLength(3)
  await store.close()
})

// It would give numbers out twice: what it counts in is not what positions come from any more.
test('a release that counts in the rows of logs appends nothing beside this one, whether it runs or starts again', async () => {
  const schema = newSchema()
  const [store, before] = [open(schema), loadMigrations('postgres').slice(0, 6)]
  await applyMigrations(store.migrations, { migrations: before })
  await client.query(
    `INSERT INTO ${schema}.mcp_logs (session_id, last, expires_at) VALUES ('s', 5, now() + interval '1 minute')`,
  )
  const counting = `UPDATE ${schema}.mcp_logs SET last = last + 1 WHERE session_id = 's'`
  await client.query(counting)
  await applyMigrations(store.migrations)
  expect((await rejection(client.query(counting))).message).toBe('column "last" does not exist')
  expect((await rejection(planMigrations(store.migrations, { migrations: before }))).code).toBe(
    'SCHEMA_TOO_NEW',
  )
  // And this one goes on where it was.
  expect((await store.log.append({ sessionId: 's', events: [event], ttl: 60_000 })).positions).toEqual([7])
  await store.close()
})

test('with the events only, streams are kept, and what needs sessions says what is missing', async () => {
  const schema = newSchema()
  const store = open(schema)
  await applyMigrations(store.migrations, { eventsOnly: true })
  await store.log.append({ sessionId: 's', events: [event], ttl: 60_000 })
  await store.log.delete('s')
  await store.log.append({ sessionId: 's', events: [event], ttl: 60_000 })
  expect((await store.sweep()).more).toBe(false)
  expect((await store.stats()).events).toBe(1)
  expect((await rejection(store.sessions.get('s'))).code).toBe('NOT_MIGRATED')
  expect((await rejection(store.bus.send('n', Buffer.from('x')))).code).toBe('NOT_MIGRATED')
  expect((await rejection(store.taskStore().getTask('t'))).code).toBe('NOT_MIGRATED')
  await store.close()
})

test('a pool of the user is used, listened beside, and never ended', async () => {
  const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 3 })
  const store = await openStore({ pool, schema: newSchema() })
  const heard: (string | undefined)[] = []
  await store.bus.subscribe('c', (text) => heard.push(text))
  await store.bus.publish('c', 'text')
  await expect.poll(() => heard).toEqual(['text'])
  await store.close()
  expect(pool.listenerCount('error')).toBe(0)
  expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  await pool.end()
})

test('wrong options are refused at once, with a sentence', () => {
  const make = (options: object) => () => new PostgresEventStore(options as PostgresEventStoreOptions)
  expect(make({})).toThrow(/url or a pool/)
  expect(make({ url: 'mysql://a:secret@b/c' })).toThrow(/mysql:\/\/a:\*\*\*@b\/c is not a PostgreSQL URL/)
  expect(make({ url: 'postgres://h/d', schema: '' })).toThrow(/schema name/)
  expect(make({ url: 'postgres://h/d', schema: 'x'.repeat(64) })).toThrow(/schema name/)
  expect(make({ url: 'postgres://h/d', listenUrl: 'redis://h' })).toThrow(/listenUrl/)
})

test('the schema that the migrations make is the one in schema.txt', async () => {
  const schema = newSchema()
  await (await openStore({ url: inject('postgresUrl'), schema })).close()
  const { rows: columns } = await client.query(
    `SELECT table_name || '.' || column_name || ' ' || data_type
       || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END AS line
     FROM information_schema.columns WHERE table_schema = $1 ORDER BY table_name COLLATE "C", ordinal_position`,
    [schema],
  )
  const { rows: indexes } = await client.query(
    `SELECT replace(indexdef, $1 || '.', '') AS line FROM pg_indexes WHERE schemaname = $1 ORDER BY indexname COLLATE "C"`,
    [schema],
  )
  const dump = [...columns, ...indexes].map(({ line }) => `${line}\n`).join('')
  await expect(dump).toMatchFileSnapshot('./schema.txt')
})
