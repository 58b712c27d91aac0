import { onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { type Backend, storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { type Hosted, type HostedOptions, serveHosted } from '../support/hosted.ts'
import type { Journal } from '../support/journal.ts'

// The lease is what Redis Cluster waits for; the others notice a dead process.
const options = { retryInterval: 50, ttl: 60, lease: 2 }

export interface Place {
  readonly shape: string
  readonly backend: Backend
  readonly app?: HostedOptions['app']
}

export async function serve({ shape, backend, app }: Place): Promise<Hosted> {
  const space = await storeSpace(backend)
  onTestFinished(() => space.remove())
  return serveHosted({ shape, store: space.url, options, ...(app && { app }) })
}

export async function connect(shape: string, { url }: Hosted): Promise<OfficialClient> {
  const client = await OfficialClient.connect(appShape(shape).sdk, url)
  onTestFinished(() => client.close())
  await client.listening()
  return client
}

export function noted(journal: Journal, what: string, tag: string): number {
  return journal.entries().filter((entry) => entry.what === what && entry.tag === tag).length
}

/** SIGKILL, and the same command again. */
export async function crash({ host }: Hosted): Promise<void> {
  await host.kill('SIGKILL')
  await host.start()
}
