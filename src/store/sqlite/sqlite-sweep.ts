import type { SweepResult } from '../port.ts'
import type { SqliteBus } from './sqlite-bus.ts'
import type { Sql, SqliteDatabase } from './sqlite-database.ts'
import { hasSessions } from './sqlite-health.ts'
import type { SqliteLog } from './sqlite-log.ts'
import type { SqliteNodes } from './sqlite-nodes.ts'
import type { SqliteSessions } from './sqlite-sessions.ts'
import type { SqliteSockets } from './sqlite-sockets.ts'
import type { SqliteTasks } from './sqlite-tasks.ts'

/** Rows deleted in one transaction of a sweep: the event loop and other processes wait for no more. */
const BATCH = 200

interface Parts {
  readonly log: SqliteLog
  readonly sessions: SqliteSessions
  readonly nodes: SqliteNodes
  readonly bus: SqliteBus
  readonly tasks: SqliteTasks
  readonly sockets: SqliteSockets
}

/** Deletes what has expired, `limit` rows at the most, in short transactions. */
export async function sweep(db: SqliteDatabase, parts: Parts, limit: number): Promise<SweepResult> {
  const total = { events: 0, sessions: 0, nodes: 0, more: true }
  let left = limit
  while (left > 0 && total.more) {
    const { tasks, ...step } = await db.write((sql) => sweepStep(sql, parts, Math.min(left, BATCH)))
    left -= Math.max(step.events, step.sessions, tasks)
    total.events += step.events
    total.sessions += step.sessions
    total.nodes += step.nodes
    total.more = step.more
  }
  await parts.sockets.sweep()
  return total
}

/** What a sweep would delete. */
export function countDue(
  db: SqliteDatabase,
  { log, sessions, nodes }: Parts,
  limit: number,
): Promise<SweepResult> {
  return db.read((sql) => {
    const events = log.countDue(sql, limit)
    if (!hasSessions(sql)) return { events, sessions: 0, nodes: 0, more: events >= limit }
    const dead = sessions.sweep(sql, limit, true).sessions
    const more = events >= limit || dead >= limit
    return { events, sessions: dead, nodes: nodes.sweep(sql, true), more }
  })
}

function sweepStep(sql: Sql, parts: Parts, limit: number): SweepResult & { tasks: number } {
  const { events, more } = parts.log.sweep(sql, limit)
  if (!hasSessions(sql)) return { events, sessions: 0, nodes: 0, tasks: 0, more }
  const swept = parts.sessions.sweep(sql, limit, false)
  parts.bus.sweep(sql)
  const nodes = parts.nodes.sweep(sql, false)
  const tasks = parts.tasks.sweep(sql, limit)
  return { events, sessions: swept.sessions, nodes, tasks, more: more || swept.more || tasks >= limit }
}
