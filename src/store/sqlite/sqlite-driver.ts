import { driverMissing } from '../common/options.ts'

/** The slice of better-sqlite3 that we use. */
export interface Driver {
  new (path: string, options: DriverOptions): Connection
}

export interface DriverOptions {
  readonly readonly?: boolean
  readonly fileMustExist?: boolean
  /** How long a statement blocks for a lock, in ms. */
  readonly timeout?: number
}

export interface Connection {
  readonly open: boolean
  readonly inTransaction: boolean
  prepare(sql: string): Statement
  exec(sql: string): unknown
  pragma(text: string, options: { simple: true }): unknown
  close(): unknown
}

export type Value = string | number | null | Uint8Array

export interface Statement {
  run(...values: Value[]): { readonly changes: number; readonly lastInsertRowid: number | bigint }
  get(...values: Value[]): unknown
  all(...values: Value[]): unknown[]
  /** From now on rows are arrays. */
  raw(): Statement
}

/** Loaded on first use, so that users of other backends need not install it. */
export async function loadDriver(): Promise<Driver> {
  try {
    return (await import('better-sqlite3')).default as unknown as Driver
  } catch (cause) {
    throw driverMissing('better-sqlite3', cause, ', which may compile for a minute or two')
  }
}
