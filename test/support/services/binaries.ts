import { execFileSync } from 'node:child_process'
import { accessSync, chmodSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where a program is, looked up in PATH and in `also`. */
export function findBinary(name: string, also: readonly string[] = []): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin', ...also]
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

/**
 * Installs Debian packages, and says so in one line. False where that cannot be done: not Debian, not root.
 * The services of the packages are not started: the tests run their own.
 */
export function aptInstall(packages: readonly string[]): boolean {
  if (process.getuid?.() !== 0 || !isDebian() || findBinary('apt-get') === undefined) return false
  process.stderr.write(`mcp-persist tests: installing ${packages.join(', ')} with apt\n`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const run = (...args: string[]) => execFileSync('apt-get', args, { env, stdio: 'ignore', timeout: 300_000 })
  const policy = '/usr/sbin/policy-rc.d'
  const ours = !existsSync(policy)
  if (ours) {
    writeFileSync(policy, '#!/bin/sh\nexit 101\n')
    chmodSync(policy, 0o755)
  }
  try {
    run('update', '-q')
    run('install', '-q', '-y', '--no-install-recommends', ...packages)
    return true
  } catch {
    return false
  } finally {
    if (ours) rmSync(policy)
  }
}

export function serviceMissing(what: string, variable: string): Error {
  return new Error(
    `The tests need ${what}, and it is neither installed nor could it be installed. Install it, or set ` +
      'MCP_PERSIST_TEST_REDIS_URL and MCP_PERSIST_TEST_POSTGRES_URL to servers that the tests may use ' +
      `(here: ${variable}; compose.yaml starts them with Docker).`,
  )
}

function isDebian(): boolean {
  try {
    return /^ID(_LIKE)?=.*debian/m.test(readFileSync('/etc/os-release', 'utf8'))
  } catch {
    return false
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
