import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import type { HostProcess } from './process.ts'

/**
 * Pauses a process that uses this store, where it does not hold SQLite's lock: nobody can write before a process that
 * stopped in a transaction goes on.
 */
export async function pauseOutsideTransaction(host: HostProcess, storeUrl: string): Promise<void> {
  for (host.pause(); storeUrl.startsWith('sqlite:') && !isWritable(storeUrl); host.pause()) {
    host.resume()
    await sleep(1)
  }
}

function isWritable(url: string): boolean {
  const database = new Database(url.replace('sqlite:', ''), { timeout: 100 })
  try {
    database.exec('BEGIN IMMEDIATE; ROLLBACK')
    return true
  } catch {
    return false
  } finally {
    database.close()
  }
}
