import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'

// A shell becomes the server (`exec`, so that the child's pid is the server's); the subshell it leaves behind holds
// the read end of a pipe from us. A line on the pipe says that all is well; the end of the pipe without one says that
// we died, however that came about: then the server and its data go too.
const WRAPPER = `( trap '' INT TERM HUP; read ok <&3 || { kill -9 $$; sleep 0.3; rm -rf "$DATA_DIR"; } ) >/dev/null 2>&1 &
exec 3<&-
exec "$@"`

export interface TiedProcess {
  readonly child: ChildProcess
  /** Resolves when it has ended, by itself or by a signal. */
  readonly exited: Promise<void>
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>
}

/** A server that cannot outlive the process that started it. `dataDir` is removed if that process dies first. */
export function spawnTied(
  command: string,
  args: readonly string[],
  dataDir: string,
  options: SpawnOptions = {},
): TiedProcess {
  const child = spawn('/bin/sh', ['-c', WRAPPER, 'sh', command, ...args], {
    ...options,
    env: { ...process.env, ...options.env, DATA_DIR: dataDir },
    // Not stdin, which Node destroys as soon as the child ends: the line would not be said.
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    // Its own process group: Ctrl-C in a terminal is for the test run, which then stops the server.
    detached: true,
  })
  child.unref()
  const pipe = child.stdio[3] as Socket
  pipe.on('error', () => {})
  pipe.unref()
  const exited = once(child, 'exit').then(
    () => new Promise<void>((resolve) => pipe.end('ok\n', () => resolve())),
  )
  return {
    child,
    exited,
    async kill() {
      child.ref()
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited
    },
  }
}
