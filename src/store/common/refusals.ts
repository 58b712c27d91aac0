import { PersistError } from '../../errors.ts'
import { MESSAGE_LIMIT } from '../port.ts'

export function gone(sessionId: string): PersistError {
  return new PersistError(
    'SESSION_GONE',
    `Session ${sessionId} does not exist, has expired or was terminated.`,
  )
}

export function terminated(sessionId: string): PersistError {
  return new PersistError('SESSION_GONE', `Session ${sessionId} was terminated and cannot be opened again.`)
}

export function taken(sessionId: string): PersistError {
  return new PersistError(
    'INVALID_ARGUMENT',
    `There is a session ${sessionId} already; session ids must be unique.`,
  )
}

export function tooMany(limit: number): PersistError {
  return new PersistError(
    'SESSION_LIMIT',
    `The principal has ${limit} sessions already, as many as it may have; end some, or raise maxSessionsPerPrincipal.`,
  )
}

export function fenced(sessionId: string, ours: number, current: number): PersistError {
  return new PersistError(
    'FENCED',
    `Session ${sessionId} is in generation ${current}; an append of generation ${ours} was refused.`,
  )
}

/** @throws PersistError `INVALID_ARGUMENT` for a message that is longer than one between nodes may be. */
export function refuseTooLong({ length }: Uint8Array): void {
  if (length <= MESSAGE_LIMIT) return
  const facts = `A message between nodes has ${length} bytes, and the limit is ${MESSAGE_LIMIT}`
  throw new PersistError('INVALID_ARGUMENT', `${facts}.`)
}

export function taskExists(id: string): PersistError {
  return new PersistError('INVALID_ARGUMENT', `There is a task ${id} already; task ids must be unique.`)
}
