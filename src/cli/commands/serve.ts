import { once } from 'node:events'
import type { Command } from 'commander'
import { maskUrl, PersistError } from '../../errors.ts'
import { type PersistentHandler, withPersistence } from '../../with-persistence.ts'
import { interrupt, orInterrupted, stopped } from '../interrupt.ts'
import { printError } from '../output.ts'
import { addFlags, persistOptions, type ServeFlags } from '../serve/options.ts'
import { prefixed } from '../serve/prefixed.ts'
import { label } from '../serve/server-process.ts'
import { NotStarted, Supervisor } from '../serve/supervisor.ts'
import { URL_HELP } from '../store-url.ts'

interface Options extends ServeFlags {
  url?: string
  stdio?: boolean
  check?: boolean
  json?: boolean
}

const DEFAULT_STORE = 'sqlite:mcp.db'
/** Each is a process. */
const MAX_STDIO_SESSIONS = 100

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('make an MCP server durable that cannot be changed: a command, a URL, a stdio server')
    .argument('[command...]', 'what starts the server, after --')
    .option('--url <url>', `${URL_HELP.replace(/\)$/, '')}, else ${DEFAULT_STORE})`)
    .option('--stdio', 'the command speaks over stdio: one process for each session')
    .option('--check', 'say whether that server can be wrapped, and exit')
    .option('--json', 'one JSON document on stdout, with --check')
  addFlags(command).action(serve)
}

async function serve(command: readonly string[], options: Options): Promise<void> {
  const served = servedBy(command, options)
  const store = options.url ?? (process.env.MCP_PERSIST_URL || DEFAULT_STORE)
  const handler = withPersistence(served.app, store, {
    ...(options.stdio && { maxSessions: MAX_STDIO_SESSIONS }),
    ...persistOptions(options),
  })
  try {
    await orInterrupted(handler.ready())
    await orInterrupted(served.start())
    const origin = await listen(handler, options)
    say(`serves ${origin}${options.path ?? served.path} from ${served.name}, with ${maskUrl(store)}`)
    if (!stopped()) await once(interrupt, 'abort')
    say('drains')
  } catch (error) {
    if (stopped()) return
    if (!(error instanceof NotStarted)) throw error
    printError(error.message, { code: undefined, json: options.json })
    process.exitCode = error.exitCode
  } finally {
    // A second ctrl-C does not wait.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
    await handler.close({ deadline: options.deadline ?? 10_000 })
    await served.stop()
  }
}

/** What is wrapped, and how it is started and stopped. */
interface Served {
  readonly app: Parameters<typeof withPersistence>[0]
  readonly name: string
  readonly path: string
  start(): Promise<void>
  stop(): Promise<void>
}

const NOTHING = { start: async () => {}, stop: async () => {} }

function servedBy([command, ...args]: readonly string[], options: Options): Served {
  const { upstream, stdio, path = '/mcp', startTimeout = 60, grace = 5000 } = options
  if (upstream !== undefined) {
    if (command !== undefined || stdio)
      throw wrongUse('--upstream names a server that runs already: leave the command out')
    const { pathname } = new URL(upstream)
    return {
      app: { url: upstream },
      name: maskUrl(upstream),
      path: pathname === '/' ? '/mcp' : pathname,
      ...NOTHING,
    }
  }
  if (command === undefined) throw wrongUse('name what starts the server after --, or give --upstream')
  const name = [command, ...args].join(' ')
  const env = environment()
  if (stdio) {
    const onStderr = (stderr: NodeJS.ReadableStream, pid: number) =>
      void prefixed(stderr, label(command, process.stderr, pid), process.stderr)
    return { app: { stdio: { command, args, env, onStderr } }, name, path, ...NOTHING }
  }
  const supervisor = new Supervisor({
    command,
    args,
    env,
    path,
    startTimeout: startTimeout * 1000,
    grace,
    say,
  })
  return {
    app: { url: () => supervisor.url },
    name,
    path,
    start: () => supervisor.start(),
    stop: () => supervisor.stop(),
  }
}

/** Ours, but for what is nobody else's business: where the store is, and its password. */
function environment(): Record<string, string> {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('MCP_PERSIST_'))
  return Object.fromEntries(entries) as Record<string, string>
}

async function listen(handler: PersistentHandler, { port, host = '127.0.0.1' }: Options): Promise<string> {
  const wanted = port ?? Number(process.env.PORT || 3000)
  const server = handler.listen(wanted, host)
  await once(server, 'listening')
  const {
    address,
    port: found,
    family,
  } = server.address() as { address: string; port: number; family: string }
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${found}`
}

function say(line: string): void {
  process.stderr.write(`mcp-persist: ${line}\n`)
}

function wrongUse(way: string): PersistError {
  return new PersistError('INVALID_ARGUMENT', `serve does not know what to serve; ${way}.`)
}
