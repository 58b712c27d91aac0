import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { program } from '../support/programs.ts'
import { within } from '../support/wait.ts'

export interface ChildOptions {
  readonly task: string
  readonly env?: Readonly<Record<string, string>>
  readonly uid?: number
}

/** A process of its own that runs one task of `worker.ts` on one file. */
export class Child {
  readonly lines: string[] = []
  readonly #process: ChildProcess
  readonly #ended: Promise<unknown>
  #onLine: () => void = () => {}
  #errors = ''

  constructor(how: string | ChildOptions, path: string, ...rest: string[]) {
    const { task, env, uid } = typeof how === 'string' ? { task: how } : how
    this.#process = spawn(process.execPath, [program('sqlite/worker.ts'), task, path, ...rest], {
      env: { ...process.env, ...env },
      ...(uid === undefined ? {} : { uid }),
    })
    this.#process.stderr!.on('data', (data) => {
      this.#errors += data
    })
    createInterface({ input: this.#process.stdout! }).on('line', (line) => {
      this.lines.push(line)
      this.#onLine()
    })
    this.#ended = once(this.#process, 'close')
  }

  /** Resolves with the first line that begins so. */
  async said(start: string): Promise<string> {
    const found = () => this.lines.find((line) => line.startsWith(start))
    const heard = new Promise<void>((resolve) => {
      this.#onLine = () => found() !== undefined && resolve()
      this.#onLine()
    })
    await Promise.race([heard, this.#ended])
    const line = found()
    if (line === undefined) throw new Error(`The child ended before it said '${start}': ${this.#errors}`)
    return line
  }

  /** Resolves when it has said so many lines; rejects with what it complained of if it ends before. */
  async wrote(count: number): Promise<void> {
    const written = new Promise<void>((resolve) => {
      this.#onLine = () => this.lines.length >= count && resolve()
      this.#onLine()
    })
    await Promise.race([within(`${count} lines`, written, 30_000), this.#ended])
    if (this.lines.length < count) {
      throw new Error(`The child ended after ${this.lines.length} of ${count} lines: ${this.#errors}`)
    }
  }

  tell(text: string): void {
    this.#process.stdin!.write(`${text}\n`)
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** Kills it without warning; resolves when all it said has been read. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }

  /** Resolves when it ended by itself, in order. */
  async ended(): Promise<void> {
    await this.#ended
    if (this.#process.exitCode !== 0) throw new Error(`The child failed: ${this.#errors}`)
  }
}
