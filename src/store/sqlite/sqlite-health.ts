import { errorText } from '../../errors.ts'
import { migrationHealth } from '../migrations/migrate.ts'
import type { StoreHealth, StoreStats } from '../port.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import type { SqliteNodes } from './sqlite-nodes.ts'
import type { SqliteSessions } from './sqlite-sessions.ts'

const BYTES = 'SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size'

/** Resolves with the time that a read takes, in ms. */
export async function measure(db: SqliteDatabase): Promise<number> {
  await db.ready()
  const start = performance.now()
  await db.read((sql) => sql('SELECT 1 FROM mcp_logs LIMIT 1').get())
  return performance.now() - start
}

export async function checkHealth(
  db: SqliteDatabase,
  { durability, problems }: { durability: 'normal' | 'full'; problems: readonly (string | undefined)[] },
): Promise<StoreHealth> {
  const backend = 'sqlite'
  const warnings: string[] = []
  if (db.inMemory) warnings.push('Events and sessions are lost when this process ends.')
  else if (durability === 'normal') {
    warnings.push("A power cut may cost the last moments' events; `durability: 'full'` prevents it.")
  }
  warnings.push(...problems.filter((problem) => problem !== undefined))
  try {
    const latencyMs = await measure(db)
    const migrations = await migrationHealth(db.migrations)
    const { version } = (await db.read((sql) => sql('SELECT sqlite_version() AS version').get())) as {
      version: string
    }
    return { backend, ok: true, version: `SQLite ${version}`, latencyMs, migrations, warnings }
  } catch (error) {
    return { backend, ok: false, warnings, error: errorText(error) }
  }
}

export function readStats(
  db: SqliteDatabase,
  { sessions, nodes }: { sessions: SqliteSessions; nodes: SqliteNodes },
): Promise<StoreStats> {
  return db.read((sql) => {
    const { bytes } = sql(BYTES).get() as { bytes: number }
    const { events } = sql('SELECT count(*) AS events FROM mcp_events').get() as { events: number }
    if (!hasSessions(sql)) return { events, bytes, sessions: 0, nodes: 0 }
    return { events, bytes, sessions: sessions.count(sql), nodes: nodes.count(sql) }
  })
}

/** A file that was migrated for events only has nothing else to count or sweep. */
export function hasSessions(sql: Sql): boolean {
  return sql("SELECT 1 FROM sqlite_master WHERE name = 'mcp_sessions'").get() !== undefined
}
