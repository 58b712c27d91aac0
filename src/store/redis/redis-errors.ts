import { errorText, isPersistError, PersistError } from '../../errors.ts'

/** Was the command carried out? `no`: surely not. `unknown`: the connection broke before the answer. */
export type Carried = 'no' | 'unknown' | 'refused'

/** Redis says so before it runs a command, or the command never left us. */
const NOT_CARRIED_OUT =
  /^(LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY|NOREPLICAS)\b|isn't writeable|isn't ready|No subscriber/
const CUT_OFF =
  /Connection is closed|max retries per request|aborted due to connection close|Cluster is ended|Socket timeout|ECONN|EPIPE|ETIMEDOUT|Too many Cluster redirections|None of startup nodes/i

/** A cluster's error says that all failed; why, its last node's says. */
export function driverText(error: unknown): string {
  const cause = (error as { lastNodeError?: unknown } | null)?.lastNodeError
  return cause === undefined ? errorText(error) : `${errorText(error)} ${errorText(cause)}`
}

/** Does the server not let us in at all? */
export function isRefusal(text: string): boolean {
  return /\b(WRONGPASS|NOAUTH)\b/.test(text)
}

export function carriedOut(error: unknown): Carried {
  const text = errorText(error)
  if (NOT_CARRIED_OUT.test(text)) return 'no'
  return CUT_OFF.test(text) ? 'unknown' : 'refused'
}

/**
 * Without the driver's error as `cause`: it holds the command that failed, and that may be AUTH with the password.
 */
export function unavailable(where: string, why: string): PersistError {
  return new PersistError('STORE_UNAVAILABLE', `Redis at ${where} could not serve the request: ${why}.`)
}

export function translate(where: string, error: unknown): PersistError {
  if (isPersistError(error)) return error
  const text = driverText(error).replace(/\.$/, '')
  const told = `Redis at ${where} said: ${text}`
  if (/^(READONLY|MISCONF)\b/.test(text)) return new PersistError('STORE_READ_ONLY', `${told}.`)
  if (/^WRONGTYPE\b|WRONGTYPE Operation/.test(text)) {
    return new PersistError('STORE_CORRUPT', `${told}; something else uses keys with this prefix.`)
  }
  if (isRefusal(text) || /\bNOPERM\b|user executing the script can't/.test(text)) {
    return new PersistError('STORE_UNAVAILABLE', `${told}; correct the user, the password or its rights.`)
  }
  return unavailable(where, text)
}
