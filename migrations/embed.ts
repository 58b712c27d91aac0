// Writes the migrations into the sources: `npm run embed`, after a migration was added. An application that is bundled
// has no files beside it, and what is applied is then always what the code was built with.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const target = new URL('../src/store/migrations/embedded.ts', import.meta.url)

/** The text of `src/store/migrations/embedded.ts` as the files beside this one want it. */
export function embedded(): string {
  return [
    '// Written by `npm run embed` from migrations/*/*.sql; edit those.',
    'export const embedded = {',
    ...['postgres', 'sqlite'].flatMap((dialect) => [`  ${dialect}: {`, ...entries(dialect), '  },']),
    '} as const',
    '',
  ].join('\n')
}

function entries(dialect: string): string[] {
  const folder = new URL(`${dialect}/`, import.meta.url)
  const files = readdirSync(folder).filter((file) => /^\d{4}_\w+\.sql$/.test(file))
  return files.sort().map((file) => {
    // A checkout may have changed the line ends; that is no change of the migration.
    const sql = readFileSync(new URL(file, folder), 'utf8').replaceAll('\r\n', '\n')
    return `    '${file.slice(0, -'.sql'.length)}': \`${sql.replace(/[\\`]|\$\{/g, '\\$&')}\`,`
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(target, embedded())
