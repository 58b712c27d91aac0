import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const here = fileURLToPath(new URL('.', import.meta.url))

/** Where the bundled hosts are; inside the repository, so that they find the package under test by its own name. */
export const bundled = fileURLToPath(new URL('../../../.tmp/hosts', import.meta.url))

/**
 * Each host in one file, once for a whole run: hundreds of processes are started, and loading five frameworks file by
 * file costs each of them more than the rest of its life.
 */
export async function bundleHosts(): Promise<void> {
  await build({
    entryPoints: readdirSync(here)
      .filter((file) => file.endsWith('.ts') && file !== 'bundle.ts' && file !== 'ready.ts')
      .map((file) => `${here}${file}`),
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
