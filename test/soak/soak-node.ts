import { fileURLToPath } from 'node:url'
import { freePort } from '../support/net/listen.ts'
import { HostProcess, hostScript } from '../support/process.ts'
import { until } from '../support/wait.ts'

const preload = fileURLToPath(new URL('./preload.mjs', import.meta.url))

// Milliseconds.
const DRAIN = 25_000
/** A node lets calls run for so long, connections end for 1 s, and has to sign off. */
export const DEADLINE = DRAIN + 2000

/** What a node holds after a collection. */
export interface Holds {
  readonly heap: number
  /** Sockets, timers and what else keeps a process busy. */
  readonly handles: number
}

/** A node in a process of its own, on a port that it keeps. */
export class SoakNode {
  readonly #host: HostProcess
  startedAt = performance.now()

  private constructor(host: HostProcess) {
    this.#host = host
  }

  static async start(shape: string, store: string): Promise<SoakNode> {
    const host = await HostProcess.start({
      args: ['--expose-gc', '--import', preload, ...hostScript('app.ts')],
      env: {
        MCP_TEST_SHAPE: shape,
        MCP_TEST_STORE: store,
        MCP_TEST_DEADLINE: String(DRAIN),
        PORT: String(await freePort()),
      },
    })
    return new SoakNode(host)
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

  /** Ends it and starts it again; resolves with the exit code and how long the end took, in ms. */
  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<{ code: number | null; took: number }> {
    const from = performance.now()
    const code = await this.#host.kill(signal)
    const took = performance.now() - from
    await this.#host.start()
    this.startedAt = performance.now()
    return { code, took }
  }

  async stop(): Promise<void> {
    await this.#host.kill()
  }
}
