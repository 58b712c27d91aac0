import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const tests = fileURLToPath(new URL('..', import.meta.url))

/** Inside the repository, so that what is bundled finds the package under test by its own name. */
const bundled = join(tests, '../.tmp/programs')

/** What tests start as processes of their own. */
const PROGRAMS = [
  'support/hosts/app.ts',
  'support/hosts/factory.ts',
  'support/hosts/http10.ts',
  'support/hosts/stdio.ts',
  'support/hosts/tasks.ts',
  'sqlite/worker.ts',
  'redis/closing.ts',
  'redis/node.ts',
  'redis/using.ts',
  'redis/writers.ts',
  'postgres/writer.ts',
] as const

/** The script to run for one of them, as the global set-up has bundled it. */
export function program(file: (typeof PROGRAMS)[number]): string {
  return join(bundled, file.replace(/\.ts$/, '.mjs'))
}

/**
 * Once for a whole run: hundreds of processes are started, and compiling the sources, or loading them file by file,
 * costs each of them more than the rest of its life.
 */
export async function bundlePrograms(): Promise<void> {
  await build({
    entryPoints: PROGRAMS.map((file) => join(tests, file)),
    outbase: tests,
    outdir: bundled,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    // A process reads the framework and the SDK that it serves, and none of the others.
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
    external: ['mcp-persist', 'better-sqlite3', 'ioredis', 'pg', 'pino', 'pino-pretty'],
    // What is written for CommonJS asks for these.
    banner: {
      js: [
        "import { createRequire } from 'node:module'",
        "import { fileURLToPath as urlToPath } from 'node:url'",
        'const require = createRequire(import.meta.url)',
        'const __filename = urlToPath(import.meta.url)',
        "const __dirname = urlToPath(new URL('.', import.meta.url))",
      ].join('\n'),
    },
  })
}
