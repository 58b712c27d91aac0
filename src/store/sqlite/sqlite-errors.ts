import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { type ErrorCode, errorText, PersistError } from '../../errors.ts'

/** Is another connection holding the lock? Waiting helps. */
export function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error))
}

/** What the driver threw, as one sentence that names the file and the way out. */
export function explain(error: unknown, path: string): PersistError {
  if (error instanceof PersistError) return error
  const text = errorText(error)
  const say = (code: ErrorCode, sentence: string) => new PersistError(code, sentence, { cause: error })
  const code = codeOf(error)

  if (isBusy(error)) {
    return say('STORE_UNAVAILABLE', `The database ${path} stayed locked by another process; try again.`)
  }
  if (code.startsWith('SQLITE_FULL')) {
    return say('STORE_READ_ONLY', `The disk of the database ${path} is full; make room.`)
  }
  if (code.startsWith('SQLITE_READONLY')) {
    const way = 'check the permissions of the file and of its folder'
    return say('STORE_READ_ONLY', `The database ${path} cannot be written to (${text}); ${way}.`)
  }
  if (code.startsWith('SQLITE_CORRUPT')) {
    return say('STORE_CORRUPT', `The database ${path} is damaged (${text}); restore it, or move it away.`)
  }
  if (code === 'SQLITE_NOTADB') {
    return say('STORE_CORRUPT', `The file ${path} is not an SQLite database; check the path.`)
  }
  if (code.startsWith('SQLITE_CANTOPEN') || (error instanceof TypeError && /open database/.test(text))) {
    const way = 'check that its folder exists and that it is a file you may write to'
    return say(whyShut(path), `The database ${path} cannot be opened; ${way}.`)
  }
  const lacking = code === 'SQLITE_ERROR' && /no such (?=table: mcp_)(table)|no (?:such )?(column)/.exec(text)
  if (lacking) {
    const way = `run \`npx mcp-persist migrate --url sqlite:${path}\``
    const what = lacking[1] ?? lacking[2]
    return say('NOT_MIGRATED', `The database ${path} lacks a ${what} (${text}); ${way}.`)
  }
  if (code === 'ERR_DLOPEN_FAILED' || text.startsWith('Could not locate the bindings file')) {
    const why = text.replace(/\s+/g, ' ').split('. ', 1)[0]
    const way = 'run `npm rebuild better-sqlite3` with the Node that runs this'
    return say('DRIVER_MISSING', `The native part of better-sqlite3 cannot be loaded (${why}); ${way}.`)
  }
  if (code.startsWith('SQLITE_')) {
    return say('STORE_UNAVAILABLE', `The database ${path} failed: ${text} (${code}).`)
  }
  return say('INVALID_ARGUMENT', `The database ${path} was given what it cannot store: ${text}.`)
}

/** Waiting mends neither a path that is wrong, nor what this process may not do. */
function whyShut(path: string): ErrorCode {
  try {
    accessSync(dirname(path), constants.W_OK)
    const file = statSync(path, { throwIfNoEntry: false })
    if (file?.isDirectory()) return 'INVALID_ARGUMENT'
    if (file) accessSync(path, constants.W_OK)
    return 'STORE_UNAVAILABLE'
  } catch (error) {
    return /^(?:ENOENT|ENOTDIR)$/.test(codeOf(error)) ? 'INVALID_ARGUMENT' : 'STORE_READ_ONLY'
  }
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code
  return typeof code === 'string' ? code : ''
}
