import { type ChildProcess, spawn } from 'node:child_process'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicNow } from '../../clock.ts'
import { paint } from '../output.ts'
import { prefixed } from './prefixed.ts'
import { GROUPS, groupRuns, signalGroup } from './process-group.ts'

/** How a process ended: its exit code, or the signal that ended it. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** It never ran. */
  readonly error?: Error
}

export interface ProcessOptions {
  readonly env: NodeJS.ProcessEnv
  readonly stdout: NodeJS.WriteStream
}

// Milliseconds between looks for a group that ends.
const LOOK = 50

/**
 * A program that was started to be wrapped. Its standard input stays open and empty: it ends when we do, however we end. What it
 * writes is written by us, with its name in front.
 */
export class ServerProcess {
  readonly ended: Promise<Ended>
  readonly #child: ChildProcess

  /** `stdout`: where its standard output goes; its standard error goes to ours. */
  constructor(command: string, args: readonly string[], { env, stdout }: ProcessOptions) {
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'], detached: GROUPS })
    this.#child = child
    // It reads nothing, or is gone.
    child.stdin.on('error', () => {})
    void prefixed(child.stdout, label(command, stdout), stdout)
    void prefixed(child.stderr, label(command, process.stderr), process.stderr)
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve({ code: null, signal: null, error }))
      child.once('exit', (code, signal) => resolve({ code, signal }))
    })
    process.once('exit', this.#kill)
  }

  /** SIGTERM to it and to all that it has started, SIGKILL after `grace` ms. Resolves when all of them are gone. */
  async end(grace: number): Promise<void> {
    const { pid, stdin, stdout, stderr } = this.#child
    stdin?.end()
    if (pid !== undefined && signalGroup(pid, 'SIGTERM')) {
      const until = monotonicNow() + grace
      while (monotonicNow() < until && groupRuns(pid)) await sleep(LOOK)
      this.#kill()
    }
    await this.ended
    process.off('exit', this.#kill)
    // Whoever has left the group may hold them open.
    stdout?.destroy()
    stderr?.destroy()
  }

  readonly #kill = () => {
    if (this.#child.pid !== undefined) signalGroup(this.#child.pid, 'SIGKILL')
  }
}

/** What a line of that program begins with. */
export function label(command: string, stream: NodeJS.WriteStream, pid?: number): string {
  return paint('dim', `[${basename(command)}${pid === undefined ? '' : ` ${pid}`}]`, stream)
}
