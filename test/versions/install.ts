import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { copyFile, cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { NodeRelease } from '../support/node-release.ts'
import type { Row } from './matrix.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const FLAGS = ['--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund', '--no-save']

/** A folder of the row's own with its packages, kept for the next run, and the package as it is packed now. */
export async function installRow(row: Row, release: NodeRelease, tarball: string): Promise<string> {
  const dependencies = { zod: '^4.0.0', ...row.packages }
  const key = createHash('sha256')
    .update(JSON.stringify([row.node, dependencies]))
    .digest('hex')
    .slice(0, 12)
  const folder = join(root, '.tmp/versions', key)
  await mkdir(folder, { recursive: true })
  await writeFile(
    join(folder, 'package.json'),
    JSON.stringify({ private: true, type: 'module', dependencies }),
  )
  // Its version says nothing: it is packed anew each time.
  await rm(join(folder, 'node_modules/mcp-persist'), { recursive: true, force: true })
  await run('npm', ['install', ...FLAGS, tarball], { cwd: folder, timeout: 300_000 })
  if ('better-sqlite3' in row.packages) await compile(folder, release)
  await copyFile(join(root, 'test/versions/server.mjs'), join(folder, 'server.mjs'))
  return folder
}

/** The version of a package that a folder has. */
export function installed(folder: string, name: string): string {
  const { version } = JSON.parse(readFileSync(join(folder, 'node_modules', name, 'package.json'), 'utf8'))
  return version
}

/** The native part of better-sqlite3: ours, where it is the same for the same Node; else compiled, which takes a minute. */
async function compile(folder: string, { node, headers }: NodeRelease): Promise<void> {
  const target = join(folder, 'node_modules/better-sqlite3')
  if (existsSync(join(target, 'build/Release/better_sqlite3.node'))) return
  if (!headers && installed(folder, 'better-sqlite3') === installed(root, 'better-sqlite3')) {
    await cp(join(root, 'node_modules/better-sqlite3/build'), join(target, 'build'), { recursive: true })
    return
  }
  const { stdout } = await run('npm', ['root', '--global'])
  const gyp = join(stdout.trim(), 'npm/node_modules/node-gyp/bin/node-gyp.js')
  const nodedir = headers ?? dirname(dirname(process.execPath))
  await run(node, [gyp, 'rebuild', '--release', `--nodedir=${nodedir}`, '--jobs=2'], {
    cwd: target,
    // npm says its own Node here, and that would win over the argument.
    env: { ...process.env, npm_config_nodedir: nodedir },
    timeout: 600_000,
    maxBuffer: 64 * 1024 * 1024,
  })
}
