import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const folder = new URL('../../.tmp/interop', import.meta.url).pathname
/** Milliseconds for an installation. */
const PATIENCE = 300_000

/**
 * A virtual environment with one package from PyPI, made when it is not there yet. Resolves with its `python`. It needs
 * `python3` with its `venv` (Debian: `apt-get install python3-venv`).
 */
export async function pythonWith(requirement: string): Promise<string> {
  const environment = join(folder, requirement.replace(/[^\w.]+/g, '-'))
  const python = join(environment, 'bin/python')
  const done = join(environment, 'installed')
  if (existsSync(done)) return python
  await mkdir(folder, { recursive: true })
  await run('python3', ['-m', 'venv', '--clear', environment], { timeout: PATIENCE })
  await run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', requirement], {
    timeout: PATIENCE,
  })
  await mkdir(done)
  return python
}
