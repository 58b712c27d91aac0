import { isAppGone } from '../app/app.ts'
import { isPersistError } from '../errors.ts'
import { AppSilent } from './live/ask-app.ts'
import { appAway, refuse, unavailable, type WholeAnswer } from './protocol/answer.ts'

const MENDED_BY_WAITING = ['STORE_UNAVAILABLE', 'OVERLOADED', 'STORE_CLOSED'] as const

/** Will it be mended by waiting, here or by the client? */
export function isPassing(error: unknown): boolean {
  if (error instanceof AppSilent || isAppGone(error)) return true
  return MENDED_BY_WAITING.some((code) => isPersistError(error, code))
}

/** What a client hears of an error: whether waiting helps, and the word to look for in the log, which has the rest. */
export function failure(requestId: string, error: unknown): WholeAnswer {
  if (MENDED_BY_WAITING.some((code) => isPersistError(error, code))) {
    return unavailable('The session cannot be looked up.')
  }
  if (isPersistError(error, 'SESSION_LIMIT')) {
    return refuse(429, 'Too many sessions; end one, or try again later.', { retryAfter: 60 })
  }
  if (isAppGone(error)) return appAway()
  if (error instanceof AppSilent) {
    return refuse(503, 'The server does not answer; try again.', { retryAfter: 1 })
  }
  return refuse(500, 'Internal server error', { code: -32603, data: { requestId } })
}
