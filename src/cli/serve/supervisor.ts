import { setTimeout as sleep } from 'node:timers/promises'
import { Upstream } from '../../app/url/upstream.ts'
import { monotonicNow } from '../../clock.ts'
import { errorText } from '../../errors.ts'
import { freePort } from './free-port.ts'
import { type Ended, ServerProcess } from './server-process.ts'

export interface SupervisorOptions {
  readonly command: string
  /** `{port}` in them stands for the port of this start. */
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly path: string
  /** Milliseconds that it has until it answers. */
  readonly startTimeout: number
  /** Milliseconds from SIGTERM to SIGKILL. */
  readonly grace: number
  /** Where its standard output goes. */
  readonly stdout: NodeJS.WriteStream
  /** One line for whoever runs us. */
  readonly say: (line: string) => void
}

// Milliseconds before it is started again: 100, 200 … 10,000. One that has lived longer than the last is back at the first.
const FIRST_WAIT = 100
const LAST_WAIT = 10_000
// Milliseconds between tries to reach it.
const TRY = 50

/** The command did not come to serve. */
export class NotStarted extends Error {
  /** What we exit with: its own code, where it has one that says failure. */
  readonly exitCode: number

  constructor(message: string, exitCode: number) {
    super(message)
    this.exitCode = exitCode
  }
}

/**
 * Keeps a server running that speaks HTTP: on a free port of its own each time, so that nothing that an earlier one has left
 * behind stands in its way.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  #url: URL | undefined
  #process: ServerProcess | undefined
  #stopped = false
  #keeping: Promise<void> | undefined
  #wake = () => {}

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  /** Where it answers; undefined while it does not. */
  get url(): URL | undefined {
    return this.#url
  }

  /** Resolves when it answers, and keeps it running from then on. Rejects with `NotStarted`. */
  async start(): Promise<void> {
    const running = await this.#launch()
    this.#keeping = this.#keep(running)
  }

  /** Ends it, and all that it has started. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#url = undefined
    this.#wake()
    await this.#process?.end(this.#options.grace)
    await this.#keeping
  }

  async #keep(running: ServerProcess): Promise<void> {
    const { grace, say } = this.#options
    let wait = FIRST_WAIT
    for (let process: ServerProcess | undefined = running; !this.#stopped; ) {
      const since = monotonicNow()
      const how = await process?.ended
      this.#url = undefined
      if (monotonicNow() - since > LAST_WAIT) wait = FIRST_WAIT
      if (this.#stopped) return
      // What it has started and left behind has no business beside the next one.
      await process?.end(grace)
      if (how) say(`${this.#name} ${wordsOf(how)}; it is started again in ${wait} ms`)
      await this.#pause(wait)
      wait = Math.min(wait * 2, LAST_WAIT)
      if (this.#stopped) return
      process = await this.#launch().catch((error: NotStarted) => {
        if (!this.#stopped) say(`${error.message} It is tried again in ${wait} ms`)
        return undefined
      })
    }
  }

  async #launch(): Promise<ServerProcess> {
    const { command, args, env, path, startTimeout, grace, stdout } = this.#options
    const port = await freePort()
    if (this.#stopped) throw new NotStarted(`${this.#name} was not started: we end.`, 1)
    const url = new URL(`http://localhost:${port}${path}`)
    const given = args.map((arg) => arg.replaceAll('{port}', String(port)))
    const process = new ServerProcess(command, given, { env: { ...env, PORT: String(port) }, stdout })
    this.#process = process
    const upstream = new Upstream(url)
    try {
      const refused = await answers(upstream, startTimeout, process.ended)
      if (refused) {
        await process.end(grace)
        throw this.#notStarted(refused, url)
      }
    } finally {
      upstream.close()
    }
    this.#url = url
    return process
  }

  #notStarted(refused: Ended | { readonly last: unknown }, { href }: URL): NotStarted {
    if ('last' in refused) {
      const { startTimeout } = this.#options
      return new NotStarted(
        `${this.#name} did not answer at ${href} within ${startTimeout / 1000} s (${errorText(refused.last)}). Does it listen ` +
          'on the port that it gets as PORT, and as {port} in its arguments? A server that listens on a port of its own is ' +
          'wrapped with --upstream; one that speaks over stdio, with --stdio.',
        1,
      )
    }
    const { code, error } = refused
    if (error) return new NotStarted(`${this.#name} ${wordsOf(refused)}: is it installed, and in PATH?`, 127)
    return new NotStarted(`${this.#name} ${wordsOf(refused)} before it answered at ${href}.`, code || 1)
  }

  get #name(): string {
    return JSON.stringify(this.#options.command)
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** Undefined when it answers; else why not. */
async function answers(
  upstream: Upstream,
  timeout: number,
  ended: Promise<Ended>,
): Promise<Ended | { last: unknown } | undefined> {
  const until = monotonicNow() + timeout
  let how: Ended | undefined
  void ended.then((end) => {
    how = end
  })
  for (;;) {
    try {
      await Promise.race([upstream.reach(), ended])
      return how
    } catch (last) {
      if (how) return how
      if (monotonicNow() > until) return { last }
    }
    await Promise.race([sleep(TRY), ended])
  }
}

function wordsOf({ code, signal, error }: Ended): string {
  if (error) return `could not be started (${errorText(error)})`
  return signal ? `was ended by ${signal}` : `exited with code ${code}`
}
