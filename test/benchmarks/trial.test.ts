import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'vitest'

const run = promisify(execFile)
const folder = fileURLToPath(new URL('../../benchmarks/', import.meta.url))

/** A row of figures begins with what it names; how many there are, and what they look like. */
const PROGRAMS: Record<string, { args: string[]; rows: RegExp; count: number }> = {
  'age.ts': { args: ['--store', 'postgres'], rows: /^\| postgres, .*\d \|$/gm, count: 9 },
  'hop.ts': { args: ['--store', 'postgres'], rows: /^\| postgres\b.*[\d)] \|$/gm, count: 3 },
  'life.ts': { args: ['--store', 'sqlite'], rows: /^\| sqlite, .*\d \|$/gm, count: 4 },
  'nodes.ts': { args: ['--store', 'sqlite'], rows: /^\| sqlite, .*\d \|$/gm, count: 3 },
  'sessions.ts': { args: ['--store', 'sqlite'], rows: /^\| .*\|\s+-?[\d.]+ \|$/gm, count: 14 },
  'store.ts': { args: [], rows: /^\| (sqlite|redis|postgres)\b.*\|\s+[\d.]+ \|$/gm, count: 45 },
  'tool-call.ts': {
    args: ['--store', 'sqlite', '--shape', 'express'],
    rows: /^\| sqlite, express, .*\d \|$/gm,
    count: 4,
  },
}

test('every benchmark has its trial run here', () => {
  const programs = readdirSync(folder).filter((file) => file.endsWith('.ts') && !file.includes('.tmp.'))
  assert.deepEqual(programs.sort(), Object.keys(PROGRAMS))
})

for (const [program, { args, rows, count }] of Object.entries(PROGRAMS)) {
  test(`${program} --once: nothing lost or doubled, and the figures are printed`, async () => {
    const command = ['--import', 'tsx', `${folder}${program}`, '--once', ...args]
    const { stdout } = await run(process.execPath, command, { timeout: 110_000, killSignal: 'SIGKILL' })
    assert.equal(stdout.match(rows)?.length, count, stdout)
    assert.doesNotMatch(stdout, /NaN|Infinity|undefined/)
  }, 120_000)
}

test('a benchmark or backend that there is not is said to be unknown', async () => {
  const command = ['--import', 'tsx', `${folder}store.ts`, '--backend', 'mysql']
  await assert.rejects(run(process.execPath, command, { timeout: 30_000 }), {
    code: 2,
    stderr: "--backend is one of sqlite, redis, postgres, not 'mysql'.\n",
  })
})
