import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { HostProcess } from './process.ts'

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

export interface ServeOptions {
  /** Store URL. */
  readonly store: string
  /** What stands before `--`. */
  readonly flags?: readonly string[]
  /** What stands behind it. */
  readonly command?: readonly string[]
  readonly env?: Record<string, string | undefined>
}

/** `mcp-persist serve`, on a free port of its own, as users run it. */
export function startServe({ store, flags = [], command = [], env }: ServeOptions): Promise<HostProcess> {
  const behind = command.length > 0 ? ['--', ...command] : []
  return HostProcess.start({
    args: [main, 'serve', '--url', store, '--port', '0', ...flags, ...behind],
    env: { ...env, MCP_PERSIST_URL: undefined },
    ready: /serves (http:\/\/[^/\s]+)\//,
    readyWithinMs: 60_000,
  })
}

/** The processes that a process has started and that live; Linux only. */
export function childrenOf(pid: number): number[] {
  try {
    const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
    return pids === '' ? [] : pids.split(' ').map(Number)
  } catch {
    return []
  }
}

export function isAlive(pid: number): boolean {
  try {
    // Field three is the state; a zombie is gone.
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** A process that `serve` has started, with all that it has started. */
function killGroup(pid: number): void {
  // A server over stdio leads no group.
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, 'SIGKILL')
    } catch {
      // It is gone.
    }
  }
}

/** Ends a `serve` without a word, and what it leaves behind. */
export async function killServe(host: HostProcess): Promise<void> {
  const left = host.running ? childrenOf(host.pid) : []
  await host.kill()
  for (const pid of left) killGroup(pid)
}
