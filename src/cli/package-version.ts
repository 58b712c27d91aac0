import { createRequire } from 'node:module'

/** Found by the package's own name: where this code lies beside `package.json` is the build's business. */
export function packageVersion(): string {
  return (createRequire(import.meta.url)('mcp-persist/package.json') as { version: string }).version
}
