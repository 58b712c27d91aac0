import { type ErrorCode, errorText, maskUrl, PersistError } from '../../errors.ts'

/** What a failed statement means for the one who runs it. */
export type Failure =
  /** The connection is lost, or was never had. Nobody knows what became of a statement under way. */
  | 'disconnected'
  /** Rolled back for the sake of another transaction: may be run again. */
  | 'conflict'
  /** The statement's data were refused. */
  | 'data'
  | 'other'

/** SQLSTATE classes and codes: PostgreSQL manual, appendix A. */
export function classify(error: unknown): Failure {
  const state = sqlState(error)
  // Errors of the socket and of the driver carry no SQLSTATE: ECONNREFUSED, "Connection terminated unexpectedly".
  if (state === undefined) return 'disconnected'
  if (/^(08|57P|53300)/.test(state)) return 'disconnected'
  // Serialization failure, deadlock, lock not available, and a task that was deleted under a message to it.
  if (/^(40|55P03|23503)/.test(state)) return 'conflict'
  if (/^(22|54)/.test(state)) return 'data'
  return 'other'
}

/** A wrong password or database name stays wrong: nobody should wait for it to get better. */
export function isHopeless(error: unknown): boolean {
  return /^(28|3D|42501)/.test(sqlState(error) ?? '')
}

export function toPersistError(error: unknown, masked: string): PersistError {
  if (error instanceof PersistError) return error
  const state = sqlState(error)
  const text = maskUrl(errorText(error))
  const make = (code: ErrorCode, sentence: string) => new PersistError(code, sentence, { cause: error })
  if (state !== undefined && /^(42P01|3F000)/.test(state)) return notMigrated(masked, error)
  if (state !== undefined && /^(42501|25006|53100)/.test(state)) {
    return make(
      'STORE_READ_ONLY',
      `PostgreSQL at ${masked} refused to write: ${text}; check rights and disk space.`,
    )
  }
  if (state !== undefined && /^XX00[12]/.test(state)) {
    return make('STORE_CORRUPT', `PostgreSQL at ${masked} reports damaged data: ${text}.`)
  }
  if (classify(error) === 'data') {
    return make('INVALID_ARGUMENT', `PostgreSQL refused what should be stored: ${text}.`)
  }
  return make('STORE_UNAVAILABLE', `PostgreSQL at ${masked} could not serve the request: ${text}.`)
}

export function notMigrated(masked: string, cause?: unknown): PersistError {
  const url = masked.startsWith('postgres') ? masked : '<url>'
  return new PersistError(
    'NOT_MIGRATED',
    `The tables of mcp-persist are missing or out of date in ${masked}; run: npx mcp-persist migrate --url '${url}'`,
    { cause },
  )
}

export function closed(): PersistError {
  return new PersistError('STORE_CLOSED', 'The PostgreSQL store is closed; open a new one.')
}

export function timedOut(masked: string, timeout: number): PersistError {
  return new PersistError('STORE_UNAVAILABLE', `PostgreSQL at ${masked} did not answer within ${timeout} ms.`)
}

function sqlState(error: unknown): string | undefined {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown }
  return typeof code === 'string' && severity !== undefined ? code : undefined
}
