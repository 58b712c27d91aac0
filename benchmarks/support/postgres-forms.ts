import { randomBytes } from 'node:crypto'
import { openStore } from 'mcp-persist'
import pg from 'pg'
import { startPostgres } from '../../test/support/services/postgres.ts'
import { Batch, type Form, message, port, type Setting, type Sweep } from './form.ts'

interface Row {
  readonly id: string
  readonly payload: string
}

/** What runs a query: one connection or a pool. */
interface Runner {
  query(config: { name: string; text: string; values: unknown[] }): Promise<{ rows: Row[] }>
}

export async function postgres(durability: string): Promise<Setting> {
  const service = await startPostgres({ fsync: true, settings: { synchronous_commit: durability } })
  // The server may be one that was given: everything stays in a schema of its own.
  const schema = `bench_${randomBytes(6).toString('hex')}`
  const url = new URL(service.url)
  url.searchParams.set('schema', schema)
  const store = openStore(url.toString(), { autoMigrate: true, timeout: 60_000 })
  await store.ready()
  const client = new pg.Client(service.url)
  await client.connect()
  const pool = new pg.Pool({ connectionString: service.url, max: 10 })
  await client.query(`CREATE TABLE ${schema}.floor (session text COLLATE "C", id bigint GENERATED ALWAYS AS IDENTITY,
    payload text NOT NULL, PRIMARY KEY (session, id))`)
  await client.query(`CREATE TABLE ${schema}.naive (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session text NOT NULL, payload text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`)
  await client.query(`CREATE INDEX ON ${schema}.naive (session, id)`)
  const show = async (name: string) => (await client.query(`SHOW ${name}`)).rows[0]![name] as string
  const [version, commit, fsync] = [
    await show('server_version'),
    await show('synchronous_commit'),
    await show('fsync'),
  ]
  const bytes = (tables: string) => async () => {
    const { rows } = await client.query(
      `SELECT sum(pg_total_relation_size(c.oid)) AS bytes FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
       WHERE relkind = 'r' AND nspname = $1 AND relname ${tables}`,
      [schema],
    )
    return Number(rows[0].bytes)
  }
  const [floor, naive] = [`${schema}.floor`, `${schema}.naive`]
  return {
    backend: 'postgres',
    title: `PostgreSQL ${version}, synchronous_commit=${commit}, fsync=${fsync}`,
    durability: `synchronous_commit=${commit}`,
    store,
    forms: {
      ours: port(store, bytes("LIKE 'mcp_%'"), { records: true }),
      floor: { ...batched(client, floor), ...reads(pool, floor, 'LIMIT 1'), bytes: bytes("= 'floor'") },
      naive: {
        unordered: true,
        ...single(pool, naive),
        ...reads(pool, naive, ''),
        bytes: bytes("= 'naive'"),
      },
    },
    logs: port(store, bytes("LIKE 'mcp_%'"), { records: false }),
    sweeps: { floor: inSteps(client, `${schema}.expiring`), naive: atATime(client, `${schema}.expiring`) },
    left: async () => 0,
    async close() {
      await store.close()
      await pool.end()
      await client.query(`DROP SCHEMA ${schema} CASCADE`)
      await client.end()
      await service.stop()
    },
  }
}

function expiring(client: pg.Client, table: string): Pick<Sweep, 'fill'> {
  return {
    async fill(events, perSession) {
      await client.query(`DROP TABLE IF EXISTS ${table}`)
      await client.query(`CREATE TABLE ${table} (id bigint PRIMARY KEY, session text NOT NULL, payload text NOT NULL,
        expires_at timestamptz NOT NULL)`)
      await client.query(`CREATE INDEX ON ${table} (expires_at)`)
      await client.query({
        text: `INSERT INTO ${table} SELECT i, 'dead-' || i / $2, $3, now() FROM generate_series(1, $1::int) AS i`,
        values: [events, perSession, message()],
      })
      await client.query(`ANALYZE ${table}`)
    },
  }
}

/** So many rows to a statement, and no index but the one it looks by. */
function inSteps(client: pg.Client, table: string): Sweep {
  const text = `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ${table} WHERE expires_at <= now() ORDER BY expires_at LIMIT $1))`
  return {
    ...expiring(client, table),
    async run(step) {
      let total = 0
      for (let gone = step; gone > 0; total += gone) {
        gone = (await client.query({ name: 'step', text, values: [step] })).rowCount ?? 0
      }
      return total
    },
  }
}

function atATime(client: pg.Client, table: string): Sweep {
  const run = async () => (await client.query(`DELETE FROM ${table} WHERE expires_at <= now()`)).rowCount ?? 0
  return { ...expiring(client, table), run }
}

/** What waits goes in one statement on one connection. */
function batched(runner: Runner, table: string): Pick<Form, 'append'> {
  const text = `INSERT INTO ${table} (session, payload) SELECT * FROM unnest($1::text[], $2::text[])`
  const batch = new Batch<[string, string]>((items) =>
    runner.query({
      name: 'batched',
      text,
      values: [items.map(([session]) => session), items.map(([, payload]) => payload)],
    }),
  )
  return { append: (session, payload) => batch.add([session, payload]) }
}

/** One prepared statement for each event, on a pool. */
function single(runner: Runner, table: string): Pick<Form, 'append'> {
  const text = `INSERT INTO ${table} (session, payload) VALUES ($1, $2)`
  return { append: (session, payload) => runner.query({ name: 'single', text, values: [session, payload] }) }
}

function reads(runner: Runner, table: string, limit: string): Pick<Form, 'read' | 'first'> {
  const text = `SELECT id, payload FROM ${table} WHERE session = $1 AND id > $2 ORDER BY id`
  const select = async (name: string, end: string, session: string, after: string) =>
    (
      await runner.query({
        name: `${name} ${table}`,
        text: `${text} ${end}`,
        values: [session, Number(after)],
      })
    ).rows
  return {
    async read(session, after) {
      const rows = await select('read', '', session, after)
      return { payloads: rows.map(({ payload }) => payload), last: rows.at(-1)?.id ?? after }
    },
    first: async (session, after) => (await select('first', limit, session, after))[0]?.payload,
  }
}
