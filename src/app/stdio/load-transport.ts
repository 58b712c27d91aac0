import { PersistError } from '../../errors.ts'

/** The SDK's own transport to a server that it starts, as far as we use it; both lines share it. */
export interface ServerProcess {
  onmessage?: ((message: never) => void) | undefined
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  readonly pid: number | null
  readonly stderr: NodeJS.ReadableStream | null
  /** Resolves when the process runs; rejects when there is no such command. */
  start(): Promise<void>
  send(message: object): Promise<void>
  /** Ends its input, and the process itself if that does not: SIGTERM after 2 s, SIGKILL after 4. */
  close(): Promise<void>
}

export interface ProcessOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly stderr: 'inherit' | 'pipe'
}

export interface StdioSdk {
  readonly line: 'v1' | 'v2'
  readonly ServerProcess: new (options: ProcessOptions) => ServerProcess
}

/** Of the SDK line that is installed; the first one, where both are. Throws `DRIVER_MISSING`. */
export async function loadStdioSdk(): Promise<StdioSdk> {
  try {
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js')
    return { line: 'v1', ServerProcess: StdioClientTransport as unknown as StdioSdk['ServerProcess'] }
  } catch {
    try {
      const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio')
      return { line: 'v2', ServerProcess: StdioClientTransport as unknown as StdioSdk['ServerProcess'] }
    } catch (cause) {
      throw new PersistError(
        'DRIVER_MISSING',
        'A stdio server is spoken to through the SDK, and that cannot be loaded from here: npm install ' +
          '@modelcontextprotocol/sdk (or @modelcontextprotocol/client and @modelcontextprotocol/server).',
        { cause },
      )
    }
  }
}
