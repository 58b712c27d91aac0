#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { errorText, isPersistError, maskUrl } from '../errors.ts'
import { addConfig } from './commands/config.ts'
import { addCopy } from './commands/copy.ts'
import { addDoctor } from './commands/doctor.ts'
import { addEvents } from './commands/events.ts'
import { addMigrate } from './commands/migrate.ts'
import { addServe } from './commands/serve.ts'
import { addSessions } from './commands/sessions.ts'
import { addStats } from './commands/stats.ts'
import { addSweep } from './commands/sweep.ts'
import { catchSignals, interrupt, stopped } from './interrupt.ts'
import { printError } from './output.ts'
import { packageVersion } from './package-version.ts'

const COMMANDS = [
  addServe,
  addMigrate,
  addDoctor,
  addStats,
  addSessions,
  addEvents,
  addSweep,
  addCopy,
  addConfig,
] as const

const EXIT = { done: 0, failed: 1, usage: 2 } as const

function createProgram(): Command {
  const program = new Command('mcp-persist')
    .description('Serves MCP servers with persistent sessions, and looks after their store.')
    .version(packageVersion())
    .showHelpAfterError(false)
    .exitOverride()
    .configureOutput({ outputError() {} })
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 a check or an operation failed, 2 wrong usage or configuration.',
    )
  for (const add of COMMANDS) add(program)
  return program
}

function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage
  const isUsage = isPersistError(error, 'INVALID_ARGUMENT') || isPersistError(error, 'DRIVER_MISSING')
  return isUsage ? EXIT.usage : EXIT.failed
}

function report(error: unknown, json: boolean): void {
  if (error instanceof CommanderError) {
    // Help and version are printed by the parser. What it says of errors quotes what it was given, URLs too.
    if (error.exitCode === 0 || error.code === 'commander.help') return
    printError(maskUrl(error.message.replace(/^error: /, '')), { code: 'INVALID_ARGUMENT', json })
    return
  }
  const code = isPersistError(error) ? error.code : undefined
  printError(maskUrl(errorText(error)), { code, json })
}

async function main(argv: readonly string[]): Promise<void> {
  // What stands behind -- is for another program.
  const json = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined).includes('--json')
  catchSignals()
  process.on('uncaughtException', (error) => {
    report(error, json)
    process.exit(EXIT.failed)
  })
  try {
    await createProgram().parseAsync(argv, { from: 'user' })
  } catch (error) {
    if (interrupt.reason === 'EPIPE') return
    process.exitCode = exitCode(error)
    report(error, json)
  } finally {
    // After ctrl-C something may still wait for a server that does not answer.
    if (stopped()) setTimeout(() => process.exit(), 500).unref()
  }
}

await main(process.argv.slice(2))
