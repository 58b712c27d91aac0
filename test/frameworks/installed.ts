import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Stack } from './stacks.ts'

const run = promisify(execFile)
const root = new URL('../..', import.meta.url).pathname
const examples = join(root, 'examples/frameworks')

const SQLITE = 'node_modules/better-sqlite3/build'

/** Milliseconds for `npm install`, or a build: some bring a thousand packages. */
const PATIENCE = 600_000

/** The package as the registry would have it. Resolves with the tarball's path. */
export async function pack(): Promise<string> {
  const folder = join(root, '.tmp/frameworks')
  await mkdir(folder, { recursive: true })
  const { stdout } = await run(
    'npm',
    ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder],
    {
      cwd: root,
    },
  )
  return join(folder, stdout.trim())
}

/** A copy of the example with its own packages and the tarball. Resolves with its folder. */
export async function install({ name, build }: Stack, tarball: string): Promise<string> {
  const folder = join(root, '.tmp/frameworks', name)
  await mkdir(folder, { recursive: true })
  // What is installed already stays: only what differs is fetched.
  for (const each of await readdir(folder)) {
    if (each !== 'node_modules' && each !== 'package-lock.json')
      await rm(join(folder, each), { recursive: true })
  }
  await cp(join(examples, name), folder, { recursive: true })
  await npm(folder, ['install', '--no-audit', '--no-fund', '--no-save', '--ignore-scripts', tarball])
  // Compiled once, for this repository: where no prebuilt binary can be fetched it takes two minutes.
  await cp(join(root, SQLITE), join(folder, SQLITE), { recursive: true })
  if (build) {
    const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' }
    await run(process.execPath, [...build], { cwd: folder, timeout: PATIENCE, env })
  }
  return folder
}

/** A copy of the example that takes this repository's own packages. Resolves with its folder. */
export async function borrow({ name }: Stack): Promise<string> {
  const folder = join(root, '.tmp/frameworks-here', name)
  await mkdir(folder, { recursive: true })
  await cp(join(examples, name, 'server.ts'), join(folder, 'server.ts'))
  return folder
}

/** What stands in the row: the versions that were run. */
export async function versionsOf({ packages }: Stack, folder: string): Promise<string> {
  const versions = packages.map(async (name) => {
    const path = join(folder, 'node_modules', name, 'package.json')
    const { version } = JSON.parse(await readFile(path, 'utf8')) as { version: string }
    return `${name} ${version}`
  })
  return (await Promise.all(versions)).join(', ')
}

async function npm(cwd: string, args: readonly string[]): Promise<void> {
  try {
    await run('npm', [...args], { cwd, timeout: PATIENCE, maxBuffer: 64 * 1024 * 1024 })
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string }
    throw new Error(`npm ${args[0]} failed in ${cwd}: ${stderr.slice(-1000)}`, { cause: error })
  }
}
