import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Entry, fileJournal } from '../support/journal.ts'
import { freePort } from '../support/net/listen.ts'
import { HostProcess } from '../support/process.ts'
import { program } from '../support/programs.ts'
import { until } from '../support/wait.ts'

const preload = fileURLToPath(new URL('./preload.mjs', import.meta.url))

// Milliseconds that a node lets calls run for at the most.
const DEADLINE = 25_000

/** What a node holds after a collection. */
export interface Holds {
  readonly heap: number
  /** Sockets, timers and what else keeps a process busy. */
  readonly handles: number
}

/** How a process ended. Times in ms. */
export interface End {
  readonly code: number | null
  /** From the signal to the end. */
  readonly took: number
  /** Of the calls that ran at this node meanwhile; 0: there was none. */
  readonly longestCall: number
  /** What its tools did in its whole life. */
  readonly deeds: readonly Entry[]
}

/** A node in a process of its own, on a port that it keeps. */
export class SoakNode {
  readonly #host: HostProcess
  readonly #journal: string

  private constructor(host: HostProcess, journal: string) {
    this.#host = host
    this.#journal = journal
  }

  /** Its journal is written to `folder`. */
  static async start(shape: string, store: string, folder: string): Promise<SoakNode> {
    const port = String(await freePort())
    const journal = join(folder, `${port}.jsonl`)
    const host = await HostProcess.start({
      args: ['--expose-gc', '--import', preload, program('support/hosts/app.ts')],
      env: {
        MCP_TEST_SHAPE: shape,
        MCP_TEST_STORE: store,
        MCP_TEST_DEADLINE: String(DEADLINE),
        MCP_TEST_JOURNAL: journal,
        PORT: port,
      },
      readyWithinMs: 60_000,
    })
    return new SoakNode(host, journal)
  }

  get origin(): string {
    return this.#host.origin
  }

  /** What it has written since its last start; an own node writes warnings and errors only. */
  get complaints(): string[] {
    return this.#host.output.split('\n').filter((line) => line !== '' && !/^(READY|HOLDS) /.test(line))
  }

  async holds(): Promise<Holds> {
    const before = this.#host.output.length
    process.kill(this.#host.pid, 'SIGUSR2')
    const [, heap, handles] = await until('what the node holds', () =>
      /^HOLDS (\d+) (\d+)$/m.exec(this.#host.output.slice(before)),
    )
    return { heap: Number(heap), handles: Number(handles) }
  }

  /** Ends it and starts it again. */
  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<End> {
    const end = await this.end(signal)
    await this.#host.start()
    return end
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<End> {
    const [from, at] = [performance.now(), Date.now()]
    const code = await this.#host.kill(signal)
    const took = performance.now() - from
    const deeds = fileJournal(this.#journal).entries()
    await rm(this.#journal, { force: true })
    const calls = deeds.filter((deed) => deed.what === 'ran' && deed.at! >= at)
    return { code, took, longestCall: Math.max(0, ...calls.map(({ ms }) => Number(ms))), deeds }
  }
}
