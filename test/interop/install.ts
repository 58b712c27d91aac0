import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const servers = join(root, 'test/interop/servers')

/** What is installed, in the versions that were tried; nothing of it is a dependency of ours. */
export const NPM = {
  supergateway: '4.0.0',
  fastmcp: '4.20.16',
  'mcp-proxy': '6.7.19',
  '@playwright/mcp': '0.0.83',
  zod: '4.6.7',
} as const
export const PYTHON = {
  sdk1: { mcp: '1.30.0' },
  fastmcp: { fastmcp: '4.2.3', mcp: '2.3.0' },
} as const

/** Inside the repository, and kept: another version is another folder. */
function place(name: string, versions: object): string {
  const hash = createHash('sha256').update(JSON.stringify(versions)).digest('hex').slice(0, 8)
  return join(root, '.tmp/interop', `${name}-${hash}`)
}

/** A package's command, run by Node. */
export function npmFile(path: string): string {
  return join(place('npm', NPM), 'node_modules', path)
}

export function npmServer(file: string): string {
  return join(place('npm', NPM), file)
}

export function python(name: keyof typeof PYTHON): string {
  return join(place(name, PYTHON[name]), 'bin/python')
}

export function pythonServer(file: string): string {
  return join(servers, file)
}

/** What a fresh machine lacks; the first time it takes a minute. */
export async function install(): Promise<void> {
  await Promise.all([
    installed(place('npm', NPM), installNpm),
    ...Object.entries(PYTHON).map(([name, versions]) =>
      installed(place(name, versions), (folder) =>
        installPython(
          folder,
          Object.entries(versions).map(([each, version]) => `${each}==${version}`),
        ),
      ),
    ),
  ])
  await copyFile(join(servers, 'fastmcp_npm.mjs'), npmServer('fastmcp_npm.mjs'))
}

/**
 * A virtual environment with one package from PyPI, made when it is not there yet. Resolves with its `python`. It needs
 * `python3` with its `venv` (Debian: `apt-get install python3-venv`).
 */
export async function pythonWith(requirement: string): Promise<string> {
  const folder = place(requirement.replace(/[^\w.]+/g, '-'), [requirement])
  await installed(folder, () => installPython(folder, [requirement]))
  return join(folder, 'bin/python')
}

/** One that was broken off is begun anew; a virtual environment cannot be moved, so a mark says that it is whole. */
async function installed(folder: string, install: (folder: string) => Promise<void>): Promise<void> {
  const mark = join(folder, 'installed')
  if (existsSync(mark)) return
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  await install(folder)
  await writeFile(`${mark}.new`, '')
  await rename(`${mark}.new`, mark)
}

async function installNpm(folder: string): Promise<void> {
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: NPM }))
  await command('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], folder)
}

async function installPython(folder: string, wanted: readonly string[]): Promise<void> {
  await command('python3', ['-m', 'venv', folder], root)
  await command(
    join(folder, 'bin/pip'),
    ['install', '--quiet', '--disable-pip-version-check', ...wanted],
    root,
  )
}

async function command(name: string, args: readonly string[], cwd: string): Promise<void> {
  await run(name, args, { cwd, timeout: 300_000 }).catch((error: { stdout?: string; stderr?: string }) => {
    const said = `${error.stdout ?? ''}${error.stderr ?? ''}`
    throw new Error(`${name} ${args.join(' ')} failed:\n${said}`, { cause: error })
  })
}
