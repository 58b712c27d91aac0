import { PersistError } from '../../errors.ts'
import { FORMATS, type Formatted, formatOf, isReadable } from '../../versions.ts'
import type { TaskRecord, TaskTable } from '../port.ts'

/** The v1 SDK's `Task`. Times are ISO 8601, spans milliseconds. */
export interface Task {
  taskId: string
  status: 'working' | 'input_required' | 'completed' | 'failed' | 'cancelled'
  ttl: number | null
  createdAt: string
  lastUpdatedAt: string
  pollInterval?: number
  statusMessage?: string
}

/** What a task's row holds, as JSON. */
export interface TaskValue extends Formatted {
  readonly task: Task
  /** The node that runs it; null: nobody knows. */
  readonly node: string | null
  readonly result?: object
  /** Why there is no result. */
  readonly error?: { readonly code: number; readonly message: string; readonly data: object }
}

export interface FoundTask {
  readonly record: TaskRecord
  readonly value: TaskValue
}

export function isTerminal({ status }: Task): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled'
}

/** Undefined: there is none, or it is another session's. Who names no session is not restricted. */
export async function findTask(
  tasks: TaskTable,
  id: string,
  sessionId: string | undefined,
): Promise<FoundTask | undefined> {
  const record = await tasks.get(id)
  if (!record) return undefined
  if (sessionId !== undefined && record.sessionId !== null && record.sessionId !== sessionId) return undefined
  const value = readTask(record)
  if (value) return { record, value }
  // Neither answered as if it were not there, nor ended as if nobody ran it: a process that reads it does both right.
  const facts = `Task ${id} is stored in format ${formatOf(JSON.parse(record.value) as Formatted)}`
  throw new PersistError('SCHEMA_TOO_NEW', `${facts}, which this release does not read; upgrade mcp-persist.`)
}

/** Undefined: it is stored in a format that this release does not read. */
export function readTask({ value }: TaskRecord): TaskValue | undefined {
  const stored = JSON.parse(value) as TaskValue
  return isReadable(stored) ? stored : undefined
}

export function writeTask(value: TaskValue): string {
  return JSON.stringify({ ...value, format: FORMATS.writes } satisfies TaskValue)
}

export function noSuchTask(id: string): PersistError {
  return new PersistError('INVALID_ARGUMENT', `There is no task ${id} in this session, or it has expired.`)
}

/** What to make of a task: its new value, and its life from now if it begins anew. */
export interface TaskChange {
  readonly value: TaskValue
  readonly ttl?: number
}

/**
 * Reads, lets `change` decide, and writes if nobody else has written meanwhile; otherwise again from what is there now. It comes
 * to an end, because each further round means that somebody else has got on. `change` answers undefined to
 * leave the task as it is, and may throw.
 */
export async function changeTask(
  tasks: TaskTable,
  id: string,
  sessionId: string | undefined,
  change: (value: TaskValue) => TaskChange | undefined,
): Promise<TaskValue> {
  for (;;) {
    const found = await findTask(tasks, id, sessionId)
    if (!found) throw noSuchTask(id)
    const { record, value } = found
    const next = change(value)
    if (!next) return value
    const text = writeTask(next.value)
    const ttl = next.ttl === undefined ? {} : { ttl: next.ttl }
    if (await tasks.replace(id, { version: record.version, value: text, ...ttl })) return next.value
  }
}
