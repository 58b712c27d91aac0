import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { maskUrl, PersistError } from '../errors.ts'

export const URL_HELP = 'the store, for example sqlite:mcp.db (default: MCP_PERSIST_URL)'

/** `--url`, else the environment. */
export function storeUrl(given: string | undefined, option = '--url'): string {
  const url = given ?? process.env.MCP_PERSIST_URL
  if (url === undefined || url === '') {
    const way = `give ${option} or set MCP_PERSIST_URL, for example to sqlite:mcp.db`
    throw new PersistError('INVALID_ARGUMENT', `No store is named; ${way}.`)
  }
  if (/^memory:|^sqlite::memory:/i.test(url)) {
    const why = 'lives in the memory of one process, and no other can look into it'
    throw new PersistError('INVALID_ARGUMENT', `The store ${maskUrl(url)} ${why}.`)
  }
  return url
}

/** The file of an SQLite URL; undefined for other backends. */
export function sqliteFile(url: string): string | undefined {
  const path = /^sqlite:([^?]+)/i.exec(url)?.[1]
  return path === undefined ? undefined : resolve(path.replace(/^\/\/(?=\/)/, ''))
}

/** SQLite would make a new file out of a mistyped path. */
export function assertExists(url: string): void {
  const file = sqliteFile(url)
  if (file === undefined || existsSync(file)) return
  const way = `check the path, or create it with \`npx mcp-persist migrate\``
  throw new PersistError('STORE_UNAVAILABLE', `There is no database ${file}; ${way}.`)
}
