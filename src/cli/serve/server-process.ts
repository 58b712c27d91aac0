import { type ChildProcess, spawn } from 'node:child_process'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { paint } from '../output.ts'
import { prefixed } from './prefixed.ts'

/** How a process ended: its exit code, or the signal that ended it. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** It never ran. */
  readonly error?: Error
}

/** Everything that one of our processes has started is in its group. Windows has no such thing. */
const GROUPS = process.platform !== 'win32'
// Milliseconds between looks for a group that ends.
const LOOK = 50

/**
 * A program that was started to be wrapped. Its standard input stays open and empty: it ends when we do, however we end. What it
 * writes is written by us, with its name in front.
 */
export class ServerProcess {
  readonly ended: Promise<Ended>
  readonly #child: ChildProcess

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'], detached: GROUPS })
    this.#child = child
    // It reads nothing, or is gone.
    child.stdin.on('error', () => {})
    void prefixed(child.stdout, label(command, process.stdout), process.stdout)
    void prefixed(child.stderr, label(command, process.stderr), process.stderr)
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve({ code: null, signal: null, error }))
      child.once('exit', (code, signal) => resolve({ code, signal }))
    })
    process.once('exit', this.#kill)
    void this.ended.then(() => this.#forgetIfGone())
  }

  /** SIGTERM to it and to all that it has started, SIGKILL after `grace` ms. Resolves when all of them are gone. */
  async end(grace: number): Promise<void> {
    this.#child.stdin?.end()
    if (this.#signal('SIGTERM')) {
      for (let waited = 0; waited < grace && this.#signal(0); waited += LOOK) await sleep(LOOK)
      this.#kill()
    }
    await this.ended
    process.off('exit', this.#kill)
    // Whoever has left the group may hold them open.
    this.#child.stdout?.destroy()
    this.#child.stderr?.destroy()
  }

  readonly #kill = () => void this.#signal('SIGKILL')

  #forgetIfGone(): void {
    if (!this.#signal(0)) process.off('exit', this.#kill)
  }

  /** False: nobody is there to hear it. */
  #signal(signal: NodeJS.Signals | 0): boolean {
    const { pid } = this.#child
    if (pid === undefined) return false
    try {
      return process.kill(GROUPS ? -pid : pid, signal)
    } catch {
      return false
    }
  }
}

/** What a line of that program begins with. */
export function label(command: string, stream: NodeJS.WriteStream, pid?: number): string {
  return paint('dim', `[${basename(command)}${pid === undefined ? '' : ` ${pid}`}]`, stream)
}
