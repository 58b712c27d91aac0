import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { node22 } from '../support/node-release.ts'

/** The result of each check, as `<scenario> / <check>`: SUCCESS, FAILURE, WARNING, SKIPPED or INFO. */
export type Conformance = ReadonlyMap<string, string>

const command = createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/package.json')
const timestamp = /-\d{4}-\d\d-\d\dT[\d-]+Z$/

/** Runs the official suite, with everything that the revision 2025-11-25 requires, against a server. */
export async function conformance(url: string): Promise<Conformance> {
  const results = await mkdtemp(join(tmpdir(), 'mcp-persist-conformance-'))
  try {
    const script = join(command, '../dist/index.js')
    const args = [script, 'server', '--url', url, '--requirements', '2025-11-25', '-o', results]
    const output = await run(await node22(), args)
    const checks = new Map<string, string>()
    for (const folder of await readdir(results)) {
      const scenario = folder.replace('server-', '').replace(timestamp, '')
      const text = await readFile(join(results, folder, 'checks.json'), 'utf8')
      for (const { id, status } of JSON.parse(text) as { id: string; status: string }[]) {
        if (status !== 'INFO') checks.set(unique(checks, `${scenario} / ${id}`), status)
      }
    }
    if (checks.size === 0) throw new Error(`The conformance suite left no results. Its output: ${output}`)
    return checks
  } finally {
    await rm(results, { recursive: true, force: true })
  }
}

export function failures(checks: Conformance): string[] {
  return [...checks]
    .filter(([, status]) => status !== 'SUCCESS')
    .map(([check, status]) => `${check}: ${status}`)
}

function unique(checks: Conformance, name: string): string {
  let candidate = name
  for (let n = 2; checks.has(candidate); n++) candidate = `${name} (${n})`
  return candidate
}

/** The suite's exit code only says that something failed; its files say what. */
function run(file: string, args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(file, args, { timeout: 90_000 }, (error, stdout, stderr) => {
      resolve(`${stdout}\n${stderr}\n${error ?? ''}`)
    })
  })
}
