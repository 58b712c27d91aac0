import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll } from 'vitest'
import { loadMigrations } from '../../src/store/migrations/load.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { Store } from '../../src/store/store.ts'
import { state } from '../../src/testing/support.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const main = join(root, 'dist/cli/main.js')

/** The tests run what users run: the built command. `npm test` has built it; who runs one file need not think of it. */
export function needsBuild(): void {
  beforeAll(() => {
    const sources = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    const newest = Math.max(...sources.map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs))
    const built = statSync(main, { throwIfNoEntry: false })?.mtimeMs ?? 0
    if (built < newest) execFileSync('npm', ['run', 'build'], { cwd: root, stdio: 'pipe' })
  })
}

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const running = new Set<ChildProcess>()

export interface RunOptions {
  readonly env?: Record<string, string>
  /** Called with each piece of stdout, and with the process. */
  readonly onOutput?: (stdout: string, child: ChildProcess) => void
}

/** Runs `mcp-persist` in a process of its own. A process that does not end within 25 s is killed, and `code` is null. */
export function run(args: readonly string[], { env = {}, onOutput }: RunOptions = {}): Promise<Outcome> {
  const { MCP_PERSIST_URL: _url, ...clean } = process.env
  const child = spawn(process.execPath, [main, ...args], { env: { ...clean, ...env } })
  running.add(child)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    onOutput?.(stdout, child)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), 25_000)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      clearTimeout(timer)
      running.delete(child)
      resolve({ code, stdout, stderr })
    })
  })
}

/** Runs it with `--json`, expects this exit code and exactly one document. */
export async function json(args: readonly string[], code = 0): Promise<Record<string, unknown>> {
  const outcome = await run([...args, '--json'])
  assert.equal(outcome.code, code, outcome.stderr)
  return JSON.parse(outcome.stdout) as Record<string, unknown>
}

/** Expects a failure as users should meet it: one sentence, no stack trace, nothing secret. */
export async function fails(args: readonly string[], code: 1 | 2, sentence: RegExp): Promise<void> {
  const outcome = await run(args)
  assert.equal(outcome.code, code, `${args.join(' ')}: ${outcome.stdout}${outcome.stderr}`)
  assert.match(outcome.stderr, /^error: [^\n]+\n$/, args.join(' '))
  assert.match(outcome.stderr, sentence)
  assertClean(outcome)
}

export const SECRET = 'hunter2'

export function assertClean({ stdout, stderr }: Outcome): void {
  assert.doesNotMatch(stdout + stderr, new RegExp(SECRET))
  assert.doesNotMatch(stdout + stderr, /^\s+at /m, 'no stack trace')
  assert.ok(!(stdout + stderr).includes('\u001b'), 'no colours without a terminal')
}

/** A folder for the files of one test. */
export function folders(): () => string {
  const base = mkdtempSync(join(tmpdir(), 'mcp-persist-cli-'))
  let count = 0
  afterAll(() => {
    for (const child of running) child.kill('SIGKILL')
    rmSync(base, { recursive: true, force: true })
  })
  return () => {
    count += 1
    const folder = join(base, String(count))
    mkdirSync(folder)
    return folder
  }
}

export async function withStore<T>(url: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore(url)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

export const message = (text: string | number) => ({
  jsonrpc: '2.0',
  method: 'notifications/message',
  params: { data: text },
})

const HOUR = 3_600_000

/** Two sessions of a node that lives, and a log without a record. Resolves with the ids of the events of `one`. */
export async function fill(store: Store): Promise<string[]> {
  await store.nodes.register({ id: 'node-1', publicKey: 'key', profile: '{}' }, HOUR)
  for (const [id, principal] of [
    ['one', 'alice'],
    ['two', null],
  ] as const) {
    await store.sessions.create({ id, principal, state, owner: 'node-1', ttl: HOUR })
  }
  await store.sessions.touch([{ id: 'one', ttl: 2 * HOUR, delivered: 1 }])
  const ids: string[] = []
  for (const i of [1, 2, 3]) ids.push(await store.forSession('one').storeEvent('_GET_stream', message(i)))
  ids.push(await store.forSession('one').storeEvent('post 1', message('ž🐎\u0000'.repeat(100))))
  await store.forSession('log-only').storeEvent('_GET_stream', message('alone'))
  return ids
}

/** The names of the package's migrations, of one part or of all. */
export function migrationNames(dialect: 'sqlite' | 'postgres', part?: 'events' | 'sessions'): string[] {
  return loadMigrations(dialect)
    .filter((migration) => part === undefined || migration.part === part)
    .map(({ name }) => name)
}
