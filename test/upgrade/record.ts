// Writes the fixtures of a release: `node --import tsx test/upgrade/record.ts <folder> [backend…]`, on that release,
// once. A file that is there stays as it is: what a release wrote does not change any more.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Redis } from 'ioredis'
import { openStore, type Store, withPersistence } from 'mcp-persist'
import pg from 'pg'
import { appShape } from '../support/apps/app-shapes.ts'
import { resourceUri } from '../support/apps/tools.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listening } from '../support/net/listen.ts'
import { startPostgres } from '../support/services/postgres.ts'
import { startRedis } from '../support/services/redis.ts'
import type { RecordedKey, Recording } from './recording.ts'

/** The most that there is: the fixtures can be used as long as this. */
const TEN_YEARS = 10 * 365 * 86_400
const TABLES = ['mcp_migrations', 'mcp_logs', 'mcp_events', 'mcp_sessions']
const RECORDERS: Record<string, () => Promise<void>> = { sqlite, redis, postgres }
const [folder, ...backends] = process.argv.slice(2)
if (folder === undefined) throw new Error('Name the folder of the release, for example test/upgrade/0.1.0.')
mkdirSync(folder, { recursive: true })
for (const backend of backends.length > 0 ? backends : Object.keys(RECORDERS)) await RECORDERS[backend]!()

/** A session with events on a call's stream and on the standalone one, a subscription and a log level. */
async function use(store: Store): Promise<Recording> {
  const journal = memoryJournal()
  const { app } = await appShape('factory').build({ journal })
  const handler = withPersistence(app as Parameters<typeof withPersistence>[0], store, TEN_YEARS)
  const { origin, close } = await listening(handler.listen(0, '127.0.0.1'))
  const client = await RawClient.open(`${origin}/mcp`)
  await client.call(client.request('logging/setLevel', { level: 'warning' }))
  await client.call(client.request('resources/subscribe', { uri: resourceUri }))
  const standalone = await client.listen()
  const call = await client.stream(client.toolCall('burst', { tag: 'recorded', count: 5, via: 'call' }))
  await call.over()
  await client.tool('later', { tag: 'standalone', count: 3 })
  await standalone.next('the last of them', ({ params }) => params?.data === 'standalone:3')
  const messages = (events: readonly { id: string | undefined; data: string }[]) =>
    events.filter(({ data }) => data !== '').map(({ id, data }) => ({ id: id!, data }))
  const recording = {
    session: client.session!,
    call: messages(call.events),
    standalone: messages(standalone.events),
  }
  client.close()
  await handler.close({ deadline: 2000 })
  await close()
  return recording
}
function save(name: string, content: object | readonly string[]): void {
  const text = Array.isArray(content) ? content.join('\n') : JSON.stringify(content, null, 1)
  writeFileSync(join(folder!, name), `${text}\n`, { flag: 'wx' })
}

async function sqlite(): Promise<void> {
  const temporary = mkdtempSync(join(tmpdir(), 'mcp-persist-record-'))
  const path = join(temporary, 'mcp.db')
  const store = openStore(`sqlite:${path}`)
  const recording = await use(store)
  await store.close()
  const db = new Database(path)
  save('sqlite.sql', dump(db))
  db.close()
  rmSync(temporary, { recursive: true })
  save('sqlite.json', recording)
}

/** The schema as the release made it, then the rows: SQLite's `quote()` makes the literals. */
function dump(db: Database.Database): string[] {
  const objects = db
    .prepare("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    .all() as { type: string; name: string; sql: string }[]
  const lines = objects.map(({ sql }) => `${sql};`)
  const tables = objects.filter(({ type }) => type === 'table').map(({ name }) => name)
  // The counters of AUTOINCREMENT: after the rows, which move them.
  for (const table of [...tables, 'sqlite_sequence']) {
    const columns = db.prepare(`SELECT name FROM pragma_table_info('${table}')`).pluck().all() as string[]
    if (table === 'sqlite_sequence') lines.push('DELETE FROM sqlite_sequence;')
    const rows = db.prepare(`SELECT ${columns.map((column) => `quote(${column})`).join()} FROM ${table}`)
    for (const row of rows.raw().all() as string[][]) {
      lines.push(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${row.join(', ')});`)
    }
  }
  return lines
}

/** As commands: a DUMP of one version of Redis cannot be restored by the one before. */
async function redis(): Promise<void> {
  const service = await startRedis()
  const store = openStore(service.url)
  const recording = await use(store)
  await store.close()
  const client = new Redis(service.url)
  const keys: RecordedKey[] = []
  for (const key of (await client.keys('mcp-persist:*')).sort()) {
    const type = await client.type(key)
    if (type === 'string') keys.push({ key, string: base64(await client.getBuffer(key)) })
    if (type === 'list')
      keys.push({ key, list: (await client.lrangeBuffer(key, 0, -1)).map((entry) => base64(entry)) })
    if (type === 'zset') keys.push({ key, zset: await scored(client, key) })
    if (type === 'set') keys.push({ key, set: await client.smembers(key) })
  }
  client.disconnect()
  await service.stop()
  save('redis.json', { ...recording, keys })
}

async function scored(client: Redis, key: string): Promise<string[]> {
  return (await client.call('ZRANGE', key, '0', '-1', 'WITHSCORES')) as string[]
}

function base64(bytes: Buffer | null): string {
  return bytes!.toString('base64')
}

async function postgres(): Promise<void> {
  const service = await startPostgres()
  const store = openStore(`${service.url}?schema=recorded`, { autoMigrate: true })
  const recording = await use(store)
  await store.close()
  const client = new pg.Client(service.url)
  await client.connect()
  await client.query("SET search_path = recorded; SET timezone = 'UTC'")
  const lines: string[] = []
  for (const table of TABLES) {
    const { rows } = await client.query<{ row: Record<string, unknown> }>(
      `SELECT to_jsonb(each) AS row FROM ${table} AS each`,
    )
    for (const { row } of rows) {
      const literals = Object.values(row).map((value) =>
        value === null ? 'NULL' : client.escapeLiteral(`${value}`),
      )
      lines.push(`INSERT INTO ${table} (${Object.keys(row).join(', ')}) VALUES (${literals.join(', ')});`)
    }
  }
  lines.push(
    "SELECT setval(pg_get_serial_sequence('mcp_logs', 'log_id'), (SELECT max(log_id) FROM mcp_logs));",
  )
  await client.end()
  await service.stop()
  save('postgres.sql', lines)
  save('postgres.json', recording)
}
