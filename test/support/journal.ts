import { appendFileSync, existsSync, readFileSync } from 'node:fs'

/** One thing that a test server did, and in which process. */
export interface Entry {
  readonly what: string
  readonly session?: string | undefined
  readonly pid?: number
  /** When, in ms since 1970; in files, which several processes write. */
  readonly at?: number
  readonly [fact: string]: unknown
}

/** What a server under test did, so that a test can compare it with what its clients received. */
export interface Journal {
  note(entry: Entry): void
  entries(): Entry[]
}

export function memoryJournal(): Journal {
  const entries: Entry[] = []
  return { note: (entry) => void entries.push(entry), entries: () => [...entries] }
}

/** Written synchronously, a line each: what stands in it was done, also when the process was killed right after. */
export function fileJournal(path: string): Journal {
  return {
    note: (entry) =>
      appendFileSync(path, `${JSON.stringify({ ...entry, pid: process.pid, at: Date.now() })}\n`),
    entries: () =>
      existsSync(path)
        ? readFileSync(path, 'utf8')
            .split('\n')
            .filter((line) => line !== '')
            .map((line) => JSON.parse(line) as Entry)
        : [],
  }
}
