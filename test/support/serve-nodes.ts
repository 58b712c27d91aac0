import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Backend, storeSpace } from './backends.ts'
import { fileJournal, type Journal } from './journal.ts'
import { RoundRobinProxy } from './net/round-robin-proxy.ts'
import type { HostProcess } from './process.ts'
import { program } from './programs.ts'
import { killServe, startServe } from './serve-command.ts'

export type Form = 'http' | 'stdio'

/** Processes of `serve` on one store, each with a server of its own behind it, and a balancer in front of all. */
export interface ServeNodes {
  readonly nodes: readonly HostProcess[]
  readonly proxy: RoundRobinProxy
  /** Of the endpoint, through the balancer. */
  readonly url: string
  /** What the servers did; each entry has the `pid` of its process. */
  readonly journal: Journal
  close(): Promise<void>
}

export interface ServeNodesOptions {
  readonly form: Form
  readonly backend?: Backend
  /** Default 2. */
  readonly size?: number
  readonly flags?: readonly string[]
}

export async function serveNodes(options: ServeNodesOptions): Promise<ServeNodes> {
  const { form, backend = 'sqlite', size = 2, flags = [] } = options
  const [space, folder] = await Promise.all([
    storeSpace(backend),
    mkdtemp(join(tmpdir(), 'mcp-persist-serve-')),
  ])
  const path = join(folder, 'journal.jsonl')
  const script = form === 'http' ? 'support/hosts/app.ts' : 'support/hosts/stdio.ts'
  const start = () =>
    startServe({
      store: space.url,
      flags: [...(form === 'stdio' ? ['--stdio'] : []), ...flags],
      command: [process.execPath, program(script)],
      env: { MCP_TEST_JOURNAL: path },
    })
  const nodes = await Promise.all(Array.from({ length: size }, start))
  const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
  const close = async () => {
    await proxy.close()
    await Promise.all(nodes.map(killServe))
    await space.remove()
    await rm(folder, { recursive: true, force: true })
  }
  return { nodes, proxy, url: `${proxy.origin}/mcp`, journal: fileJournal(path), close }
}
