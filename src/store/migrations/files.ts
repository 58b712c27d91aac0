import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { errorText, PersistError } from '../../errors.ts'
import type { Migration, MigrationTarget } from './target.ts'

/** The migrations of a dialect in order. Both `src/` and `dist/` lie beside `migrations/` in the package. */
export function loadMigrations(dialect: MigrationTarget['dialect']): readonly Migration[] {
  const folder = new URL(`../../../migrations/${dialect}/`, import.meta.url)
  try {
    const files = readdirSync(folder).filter((file) => /^\d{4}_\w+\.sql$/.test(file))
    return files.sort().map((file) => parse(file, readFileSync(new URL(file, folder), 'utf8')))
  } catch (cause) {
    const path = fileURLToPath(folder)
    throw new PersistError(
      'NOT_MIGRATED',
      `The migrations in ${path} cannot be read (${errorText(cause)}); reinstall mcp-persist, and do not bundle it.`,
      { cause },
    )
  }
}

function parse(file: string, text: string): Migration {
  // A checkout may have changed the line ends; that is no change of the migration.
  const sql = text.replaceAll('\r\n', '\n')
  const part = /^-- part: (events|sessions)$/m.exec(sql)?.[1] as Migration['part'] | undefined
  if (!part) throw new Error(`${file} does not say '-- part: events' or '-- part: sessions'`)
  const compatible = /^-- compatible: (\d{4})$/m.exec(sql)?.[1] ?? null
  return {
    name: file.slice(0, -'.sql'.length),
    part,
    compatible,
    sql,
    checksum: createHash('sha256').update(sql).digest('hex'),
  }
}
