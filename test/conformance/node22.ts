import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const cache = fileURLToPath(new URL('../../node_modules/.cache/node22', import.meta.url))

/**
 * A Node of 22 or above, which the official conformance suite needs: this very one, or the one that npm ships as a
 * package, installed once in a cache folder where it neither shadows the machine's own node nor is part of an
 * install. When it cannot be had the tests that need it fail with this function's sentence; they are never skipped.
 */
export async function node22(): Promise<string> {
  if (Number(process.versions.node.split('.')[0]) >= 22) return process.execPath
  const platform = process.platform === 'win32' ? 'win' : process.platform
  const name = `node-${platform}-${process.arch}`
  const binary = join(cache, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (!existsSync(binary)) await install(name)
  const { stdout } = await run(binary, ['--version'])
  if (!stdout.startsWith('v22.'))
    throw new Error(`${binary} says ${stdout.trim()} where Node 22 was expected.`)
  return binary
}

/** Installs beside the cache and moves it there in one step: test files that need it at once do not meet half of it. */
async function install(name: string): Promise<void> {
  const fresh = `${cache}-${process.pid}`
  await mkdir(fresh, { recursive: true })
  const flags = [
    '--prefix',
    fresh,
    '--no-save',
    '--no-package-lock',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
  ]
  try {
    await run('npm', ['install', ...flags, `${name}@22`], {
      timeout: 120_000,
      shell: process.platform === 'win32',
    })
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    throw new Error(
      `The conformance suite needs Node 22, and npm could not install ${name}@22 for it; run the tests with Node 22 or above, or let npm reach its registry.`,
      { cause: error },
    )
  }
  await rename(fresh, cache).catch(() => rm(fresh, { recursive: true, force: true }))
}
