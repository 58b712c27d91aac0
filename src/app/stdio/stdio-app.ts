import type { App, AppRequest, AppResponse, Presence } from '../app.ts'
import { FactoryApp } from '../factory-app.ts'
import { loadStdioSdk } from './load-transport.ts'
import { StdioBridge } from './stdio-bridge.ts'

/**
 * A server that speaks over its standard input and output, and how it is started: once for each session.
 *
 * @example
 * withPersistence({ stdio: { command: 'npx', args: ['-y', 'some-stdio-server'] } }, 'sqlite:mcp.db', 3600).listen(3000)
 */
export interface StdioServer {
  /** A program, by its path or as it is found in `PATH`; no shell reads it. */
  readonly command: string
  readonly args?: readonly string[]
  /** Beside what the SDK passes on by itself, such as `PATH` and `HOME`. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Takes what a process writes to its standard error; without it, that goes to ours. */
  readonly onStderr?: (stderr: NodeJS.ReadableStream, pid: number) => void
}

/** A session's process may die, and then its calls have broken off; the app starts another, and is never away itself. */
const ALWAYS_THERE: Presence = { away: false, check: async () => false, onChange() {} }

/** The small app around a stdio server: a process of it for each session. */
export class StdioApp implements App {
  readonly presence = ALWAYS_THERE
  readonly #server: StdioServer
  readonly #bridges = new Set<StdioBridge>()
  #closed = false
  readonly #factory = new FactoryApp(() => this.#bridge())

  constructor(server: StdioServer) {
    this.#server = server
  }

  fetch(request: AppRequest): Promise<AppResponse> {
    return this.#factory.fetch(request)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#factory.close()
    await Promise.all([...this.#bridges].map((bridge) => bridge.close()))
  }

  async #bridge(): Promise<StdioBridge> {
    const { command, args = [], env = {}, cwd, onStderr } = this.#server
    const { line, ServerProcess } = await loadStdioSdk()
    const stderr = onStderr ? 'pipe' : 'inherit'
    const process = new ServerProcess({ command, args, env, stderr, ...(cwd !== undefined && { cwd }) })
    const bridge = new StdioBridge(process, {
      onStart: () => process.stderr && onStderr?.(process.stderr, process.pid ?? 0),
      onEnd: () => this.#bridges.delete(bridge),
    })
    this.#bridges.add(bridge)
    if (this.#closed) await bridge.close()
    // By this a server of the first line is known.
    return line === 'v1' ? Object.assign(bridge, { experimental: {} }) : bridge
  }
}
