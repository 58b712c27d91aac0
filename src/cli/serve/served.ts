import type { App } from '../../app/app.ts'
import type { WrappableApp } from '../../app/resolve-app.ts'
import { StdioApp, type StdioServer } from '../../app/stdio/stdio-app.ts'
import { Upstream } from '../../app/url/upstream.ts'
import { UrlApp } from '../../app/url/url-app.ts'
import { maskUrl, PersistError } from '../../errors.ts'
import type { ServeFlags } from './options.ts'
import { prefixed } from './prefixed.ts'
import { probe } from './probe.ts'
import { label } from './server-process.ts'
import { NotStarted, Supervisor } from './supervisor.ts'

/** What `serve` wraps, in each of its three forms. */
export interface Served {
  readonly app: WrappableApp
  /** For people. */
  readonly name: string
  readonly path: string
  /** Resolves when it can be used. Rejects with `NotStarted`. */
  start(): Promise<void>
  /** The app itself, without persistence; to be closed by whoever asks. Only after `start`. */
  direct(): App
  stop(): Promise<void>
}

export interface ServedFlags extends ServeFlags {
  readonly stdio?: boolean
  /** Then standard output is ours alone. */
  readonly check?: boolean
}

/** Throws `INVALID_ARGUMENT` where it is not clear what is meant. */
export function servedBy([command, ...args]: readonly string[], flags: ServedFlags): Served {
  if (flags.upstream !== undefined) {
    if (command !== undefined || flags.stdio)
      throw wrongUse('--upstream names a server that runs already: leave the command and --stdio out')
    return upstream(flags.upstream, flags)
  }
  if (command === undefined)
    throw wrongUse(
      'name what starts the server after --, as in `serve -- node server.js`, or give --upstream',
    )
  return flags.stdio ? stdio(command, args, flags) : supervised(command, args, flags)
}

function upstream(url: string, { path }: ServedFlags): Served {
  if (!URL.canParse(url)) throw wrongUse(`--upstream must be a URL, as in http://localhost:8000/mcp`)
  const { pathname } = new URL(url)
  return {
    app: { url },
    name: maskUrl(url),
    path: path ?? (pathname === '/' ? '/mcp' : pathname),
    start: async () => {},
    direct: () => new UrlApp(new Upstream(new URL(url))),
    stop: async () => {},
  }
}

function supervised(command: string, args: readonly string[], flags: ServedFlags): Served {
  const { path = '/mcp', startTimeout = 60, grace = 5000 } = flags
  const supervisor = new Supervisor({
    command,
    args,
    env: environment(),
    path,
    startTimeout: startTimeout * 1000,
    grace,
    stdout: flags.check ? process.stderr : process.stdout,
    say,
  })
  return {
    app: { url: () => supervisor.url },
    name: [command, ...args].join(' '),
    path,
    start: () => supervisor.start(),
    direct: () => new UrlApp(new Upstream(() => supervisor.url)),
    stop: () => supervisor.stop(),
  }
}

function stdio(command: string, args: readonly string[], flags: ServedFlags): Served {
  const { path = '/mcp', startTimeout = 60 } = flags
  const onStderr: StdioServer['onStderr'] = (stderr, pid) =>
    void prefixed(stderr, label(command, process.stderr, pid), process.stderr)
  const server = { command, args, env: environment(), onStderr }
  const direct = () => new StdioApp(server)
  const name = [command, ...args].join(' ')
  return {
    app: { stdio: server },
    name,
    path,
    // One is started for nobody: what cannot work is told now, and not to the first client.
    start: async () => {
      const failed = (await probe(direct(), { path, timeout: startTimeout * 1000 })).checks.find(
        ({ ok }) => !ok,
      )
      if (failed)
        throw new NotStarted(`${JSON.stringify(command)} cannot be served over stdio: ${failed.detail}.`, 1)
    },
    direct,
    stop: async () => {},
  }
}

/** What `npx --package` tells the command that it runs; an `npx` behind us would take it for its own. */
const OF_NPX: ReadonlySet<string> = new Set(['npm_config_package', 'npm_config_call'])

/** Ours, but for what is nobody else's business: where the store is, and its password. */
function environment(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('MCP_PERSIST_') && !OF_NPX.has(name),
  )
  return Object.fromEntries(entries) as Record<string, string>
}

/** For whoever runs us; the output of the server goes to both streams. */
export function say(line: string): void {
  process.stderr.write(`mcp-persist: ${line}\n`)
}

function wrongUse(way: string): PersistError {
  return new PersistError('INVALID_ARGUMENT', `serve does not know what to serve; ${way}.`)
}
