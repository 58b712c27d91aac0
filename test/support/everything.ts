import { createRequire } from 'node:module'
import { join } from 'node:path'
import { freePort } from './net/listen.ts'
import { HostProcess } from './process.ts'

/** The official reference server, as npm ships it. */
export function everythingScript(): string {
  const manifest = createRequire(import.meta.url).resolve(
    '@modelcontextprotocol/server-everything/package.json',
  )
  return join(manifest, '../dist/index.js')
}

/** It, in a process of its own. */
export async function startEverything(): Promise<HostProcess> {
  const port = await freePort()
  const host = await HostProcess.start({
    args: [everythingScript(), 'streamableHttp'],
    env: { PORT: String(port) },
    ready: /listening on port \d+/,
  })
  host.origin = `http://127.0.0.1:${port}`
  return host
}
