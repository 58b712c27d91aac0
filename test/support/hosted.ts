import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { PersistOptions } from '../../src/index.ts'
import { fileJournal, type Journal } from './journal.ts'
import { freePort } from './net/listen.ts'
import { HostProcess } from './process.ts'
import { program } from './programs.ts'
import { NOW, type Release } from './releases.ts'
import type { ShapeOptions } from './serve.ts'

export interface HostedOptions {
  /** Of `hosts/app.ts`. */
  readonly shape?: string
  /** Wrap the server at this URL instead of a shape. */
  readonly upstream?: string
  /** The file of `hosts/` to run. Default `app.ts`. */
  readonly script?: 'app.ts' | 'factory.ts' | 'tasks.ts'
  /** A store URL; `FOLDER` in it becomes a temporary folder. Default `sqlite:FOLDER/mcp.db`. */
  readonly store?: string
  /** The build that it runs. Default `dist/`. */
  readonly release?: Release
  /** Milliseconds that an ordered end may take. Default 2000. */
  readonly deadline?: number
  /** Where its journal goes, shared with other processes; then the caller ends the process. Default: one of its own. */
  readonly folder?: string
  /** `stableId`: the app uses `persistentSessionId`. */
  readonly app?: Pick<ShapeOptions, 'auth' | 'cors' | 'json' | 'eventStore'> & { readonly stableId?: boolean }
  /** `principal: true`: by the test's tokens. */
  readonly options?: Omit<PersistOptions, 'principal' | 'logger'> & { readonly principal?: boolean }
}

export interface Hosted {
  readonly host: HostProcess
  readonly url: string
  readonly journal: Journal
  readonly folder: string
}

/** An app in a process of its own, wrapped by the built package, on a port that it keeps when it starts again. */
export async function serveHosted(hosted: HostedOptions): Promise<Hosted> {
  const { shape, upstream, script = 'app.ts', store, app, options, release = NOW, deadline } = hosted
  const folder = hosted.folder ?? (await mkdtemp(join(tmpdir(), 'mcp-persist-host-')))
  const journalPath = join(folder, 'journal.jsonl')
  const port = await freePort()
  const host = await HostProcess.start({
    args: [program(`support/hosts/${script}`)],
    env: {
      MCP_TEST_SHAPE: shape,
      MCP_TEST_URL: upstream,
      MCP_TEST_STORE: (store ?? 'sqlite:FOLDER/mcp.db').replace('FOLDER', folder),
      MCP_TEST_APP: JSON.stringify(app ?? {}),
      MCP_TEST_OPTIONS: JSON.stringify(options ?? {}),
      MCP_TEST_JOURNAL: journalPath,
      MCP_TEST_DEADLINE: deadline?.toString(),
      PORT: String(port),
      ...release.env,
    },
  })
  if (hosted.folder === undefined) {
    onTestFinished(async () => {
      await host.kill()
      await rm(folder, { recursive: true, force: true })
    })
  }
  return { host, url: `${host.origin}/mcp`, journal: fileJournal(journalPath), folder }
}

/** The same app as its author serves it: what `{ url }` wraps. */
export async function serveUpstream(
  hosted: Pick<HostedOptions, 'shape' | 'app'> & { readonly folder: string },
): Promise<HostProcess> {
  return HostProcess.start({
    args: [program('support/hosts/app.ts')],
    env: {
      MCP_TEST_SHAPE: hosted.shape,
      MCP_TEST_APP: JSON.stringify(hosted.app ?? {}),
      MCP_TEST_JOURNAL: join(hosted.folder, 'journal.jsonl'),
      PORT: String(await freePort()),
    },
  })
}
