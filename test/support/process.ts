import { type ChildProcess, spawn } from 'node:child_process'
import { until, within } from './wait.ts'

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface StartOptions {
  /** What follows `node`: a script and its arguments. */
  readonly args: readonly string[]
  /** Another Node than this one. */
  readonly node?: string
  readonly env?: Record<string, string | undefined>
  /** Default: that of this process. */
  readonly cwd?: string
  /** The line that says it serves; a first group is its origin. Default `READY <origin>`. */
  readonly ready?: RegExp
  /** Default 20,000. */
  readonly readyWithinMs?: number
}

/** A server in a process of its own, to be killed, paused and started again. */
export class HostProcess {
  origin = ''
  output = ''
  readonly #options: StartOptions
  #child: ChildProcess | undefined

  private constructor(options: StartOptions) {
    this.#options = options
  }

  static async start(options: StartOptions): Promise<HostProcess> {
    const host = new HostProcess(options)
    await host.start()
    return host
  }

  get pid(): number {
    return this.#child!.pid!
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Starts it (again), with the environment it was given and `env` on top. */
  async start(env: Record<string, string | undefined> = {}): Promise<void> {
    if (this.running) throw new Error(`The host runs already, as process ${this.pid}.`)
    const { args, cwd, ready = /^READY (\S+)$/m, readyWithinMs = 20_000 } = this.#options
    const child = spawn(this.#options.node ?? process.execPath, args, {
      env: { ...process.env, ...this.#options.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(cwd !== undefined && { cwd }),
    })
    this.#child = child
    this.output = ''
    running.add(child)
    child.once('exit', () => running.delete(child))
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    try {
      const match = await until(
        'its ready line',
        () => {
          if (!this.running) throw new Error(`It ended with ${child.exitCode ?? child.signalCode}.`)
          return ready.exec(this.output)
        },
        readyWithinMs,
      )
      this.origin = match[1] ?? ''
    } catch (error) {
      child.kill('SIGKILL')
      throw new Error(`${args.at(-1)} did not start. Its output: ${this.output}`, { cause: error })
    }
  }

  /** Resolves with the exit code once the process is gone; null after a signal. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    const child = this.#child!
    if (!this.running) return child.exitCode
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
    child.kill(signal)
    return within(`the end of process ${child.pid} by ${signal}`, exited, 30_000)
  }

  /** SIGTERM, to which a host answers with an ordered end. */
  async stop(): Promise<number | null> {
    return this.kill('SIGTERM')
  }

  pause(): void {
    this.#child!.kill('SIGSTOP')
  }

  resume(): void {
    this.#child!.kill('SIGCONT')
  }
}
