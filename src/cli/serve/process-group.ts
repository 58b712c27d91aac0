import { readdirSync, readFileSync } from 'node:fs'

/** Everything that one of our processes has started is in its group. Windows has no such thing. */
export const GROUPS = process.platform !== 'win32'

/** To the process that leads a group, and to all that is in it. False: nobody is there to hear it. */
export function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(GROUPS ? -leader : leader, signal)
  } catch {
    return false
  }
}

/**
 * Does any of a group still run? In a container nobody may collect what has ended there, and the system counts that as well;
 * Linux tells which.
 */
export function groupRuns(leader: number): boolean {
  if (!signalGroup(leader, 0)) return false
  if (process.platform !== 'linux') return true
  try {
    return readdirSync('/proc').some((pid) => /^\d+$/.test(pid) && runsIn(pid, leader))
  } catch {
    return true
  }
}

function runsIn(pid: string, group: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // Behind the name, which may hold anything: state, parent, group.
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return Number(pgrp) === group && state !== 'Z' && state !== 'X'
  } catch {
    return false
  }
}
