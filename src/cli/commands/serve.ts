import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { Command } from 'commander'
import { maskUrl, PersistError } from '../../errors.ts'
import { type PersistentHandler, withPersistence } from '../../with-persistence.ts'
import { interrupt, orInterrupted, stopped } from '../interrupt.ts'
import { printError } from '../output.ts'
import { hostsFor, onlyFor } from '../serve/allowed-hosts.ts'
import { check } from '../serve/check.ts'
import { addFlags, port as parsePort, persistOptions, said } from '../serve/options.ts'
import { type ServedFlags, say, servedBy } from '../serve/served.ts'
import { NotStarted } from '../serve/supervisor.ts'
import { URL_HELP } from '../store-url.ts'

interface Options extends ServedFlags {
  url?: string
  json?: boolean
}

const DEFAULT_STORE = 'sqlite:mcp.db'
// Milliseconds that we may live on after everything is closed.
const LINGER = 1000

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('make an MCP server durable without a change to it: a command, a URL, a stdio server')
    .argument('[command...]', 'what starts the server, after --')
    .option('--url <url>', `${URL_HELP.replace(/\)$/, '')}, else ${DEFAULT_STORE})`)
    .option('--stdio', 'the command speaks over stdio: one process for each session')
    .option('--check', 'say whether that server can be wrapped, and exit')
    .option('--json', 'one JSON document on stdout, with --check')
  addFlags(command).action(serve)
}

async function serve(command: readonly string[], given: Options): Promise<void> {
  const options = said(given)
  const served = servedBy(command, options)
  if (options.check) {
    const { startTimeout = 60, json } = options
    return ending({ stop: served.stop, json }, async () => {
      if (!options.stdio) await orInterrupted(served.start())
      await orInterrupted(check(served, { timeout: startTimeout * 1000, json }))
    })
  }
  const store = options.url ?? (process.env.MCP_PERSIST_URL || DEFAULT_STORE)
  const handler = withPersistence(served.app, store, persistOptions(options))
  const stop = async () => {
    try {
      await handler.close({ deadline: options.deadline ?? 10_000 })
    } finally {
      await served.stop()
    }
  }
  await ending({ stop }, async () => {
    await orInterrupted(handler.ready())
    await orInterrupted(served.start())
    const origin = await listen(handler, options)
    say(`serves ${origin}${served.path} from ${served.name}, with ${maskUrl(store)}`)
    if (!stopped()) await once(interrupt, 'abort')
    say('ends: running calls are finished')
  })
}

/** Whatever happens, what was started is ended; who was told to end has not failed. */
async function ending(
  { stop, json }: { stop: () => Promise<void>; json?: boolean | undefined },
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (stopped()) return
    if (!(error instanceof NotStarted)) throw error
    printError(error.message, { code: undefined, json })
    process.exitCode = error.exitCode
  } finally {
    // A second ctrl-C does not wait.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
    await stop()
    // Something that the server has started, and that has left its group, may keep us here by what it holds of ours.
    setTimeout(() => process.exit(), LINGER).unref()
  }
}

async function listen(handler: PersistentHandler, options: Options): Promise<string> {
  const { host = '127.0.0.1', port = parsePort(process.env.PORT || '3000'), allowedHosts } = options
  const server = handler.listen(port, host)
  await once(server, 'listening').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error
    const message = `Port ${port} of ${host} is taken (EADDRINUSE); give another one with --port.`
    throw new PersistError('INVALID_ARGUMENT', message, { cause: error })
  })
  const { address, port: found } = server.address() as AddressInfo
  const isAllowed = hostsFor(address, allowedHosts)
  if (isAllowed) onlyFor(server, isAllowed)
  return `http://${address.includes(':') ? `[${address}]` : address}:${found}`
}
