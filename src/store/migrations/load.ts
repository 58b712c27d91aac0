import { createHash } from 'node:crypto'
import { embedded } from './embedded.ts'
import type { Migration, MigrationTarget } from './target.ts'

/** The migrations of a dialect in order. */
export function loadMigrations(dialect: MigrationTarget['dialect']): readonly Migration[] {
  return Object.entries(embedded[dialect]).map(([name, sql]) => parse(name, sql))
}

function parse(name: string, sql: string): Migration {
  const part = /^-- part: (events|sessions)$/m.exec(sql)?.[1] as Migration['part'] | undefined
  if (!part) throw new Error(`${name} does not say '-- part: events' or '-- part: sessions'`)
  const compatible = /^-- compatible: (\d{4})$/m.exec(sql)?.[1] ?? null
  return { name, part, compatible, sql, checksum: createHash('sha256').update(sql).digest('hex') }
}
