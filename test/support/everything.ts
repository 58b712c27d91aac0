import { createRequire } from 'node:module'
import { join } from 'node:path'
import { freePort } from './net/listen.ts'
import { HostProcess } from './process.ts'

/** The official reference server, as npm ships it, in a process of its own. */
export async function startEverything(): Promise<HostProcess> {
  const manifest = createRequire(import.meta.url).resolve(
    '@modelcontextprotocol/server-everything/package.json',
  )
  const port = await freePort()
  const host = await HostProcess.start({
    args: [join(manifest, '../dist/index.js'), 'streamableHttp'],
    env: { PORT: String(port) },
    ready: /listening on port \d+/,
  })
  host.origin = `http://127.0.0.1:${port}`
  return host
}
