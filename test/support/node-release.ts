import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const caches = fileURLToPath(new URL('../../node_modules/.cache', import.meta.url))

export interface NodeRelease {
  /** The program. */
  readonly node: string
  /** The folder with its `include/`, for a native module that is compiled for it; undefined for the machine's own. */
  readonly headers?: string
}

/** A Node that the official conformance suite can use: this very one, or a Node 22. */
export async function node22(): Promise<string> {
  if (major(process.versions.node) >= 22) return process.execPath
  return (await nodeRelease(22)).node
}

/**
 * The newest Node of a line: this very one, or the one that npm ships as a package, installed once in a cache folder where
 * it neither shadows the machine's own node nor is part of an install. When it cannot be had, tests that need it fail with
 * this function's sentence; they are never skipped.
 */
export async function nodeRelease(line: number): Promise<NodeRelease> {
  if (major(process.versions.node) === line) return { node: process.execPath }
  const windows = process.platform === 'win32'
  const name = `node-${windows ? 'win' : process.platform}-${process.arch}`
  const headers = join(caches, `node${line}`, 'node_modules', name)
  const node = join(headers, 'bin', windows ? 'node.exe' : 'node')
  if (!existsSync(node)) await install(name, line)
  const { stdout } = await run(node, ['--version'])
  if (!stdout.startsWith(`v${line}.`))
    throw new Error(`${node} says ${stdout.trim()} where Node ${line} was expected.`)
  return { node, headers }
}

/** Installs beside the cache and moves it there in one step: test files that need it at once do not meet half of it. */
async function install(name: string, line: number): Promise<void> {
  const cache = join(caches, `node${line}`)
  const fresh = `${cache}-${process.pid}`
  await mkdir(fresh, { recursive: true })
  const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  try {
    await run('npm', ['install', '--prefix', fresh, ...flags, `${name}@${line}`], {
      timeout: 120_000,
      shell: process.platform === 'win32',
    })
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    throw new Error(
      `The tests need Node ${line}, and npm could not install ${name}@${line}; run them with that Node, or let npm reach its registry.`,
      { cause: error },
    )
  }
  await rename(fresh, cache).catch(() => rm(fresh, { recursive: true, force: true }))
}

function major(version: string): number {
  return Number(version.split('.')[0])
}
