import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PersistOptions } from '../../src/index.ts'
import type { AppShape } from './apps/app-shapes.ts'
import { type Hosted, type HostedOptions, serveHosted } from './hosted.ts'
import { fileJournal, type Journal, memoryJournal } from './journal.ts'
import { RoundRobinProxy } from './net/round-robin-proxy.ts'
import { type ShapeOptions, serveWrapped, type Wrapped } from './serve.ts'
import type { Running } from './suites/features.ts'

export interface Cluster extends Running {
  readonly nodes: readonly Wrapped[]
  /** `url` leads through it: each request to the next node. */
  readonly proxy: RoundRobinProxy
}

export interface ClusterOptions {
  /** The URL of a store that the nodes share; each opens its own. */
  readonly store: string
  /** Default 3. */
  readonly size?: number
  readonly app?: ShapeOptions
  readonly options?: PersistOptions
}

/**
 * Nodes in this process, each with its app, store and handler of its own, that know of each other only through the
 * store, as processes do. One journal for all.
 */
export async function serveCluster(shape: AppShape, cluster: ClusterOptions): Promise<Cluster> {
  const { store, size = 3, app = {}, options = {} } = cluster
  const journal = memoryJournal()
  const start = () => serveWrapped(shape, { store, app, options, journal })
  const nodes = await Promise.all(Array.from({ length: size }, start))
  const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
  const close = async () => {
    await proxy.close()
    await Promise.all(nodes.map((node) => node.close()))
  }
  return { nodes, proxy, journal, url: `${proxy.origin}/mcp`, close }
}

export interface HostedCluster {
  readonly nodes: readonly Hosted[]
  readonly proxy: RoundRobinProxy
  readonly url: string
  /** What the apps of all processes did; each entry has its `pid`. */
  readonly journal: Journal
  close(): Promise<void>
}

/** The same as processes, to be killed, paused and started again. */
export async function hostCluster(
  hosted: HostedOptions & { store: string; size?: number },
): Promise<HostedCluster> {
  const { size = 3, ...each } = hosted
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-cluster-'))
  const start = () => serveHosted({ ...each, folder })
  const nodes = await Promise.all(Array.from({ length: size }, start))
  const proxy = await RoundRobinProxy.over(nodes.map(({ host }) => host.origin))
  const close = async () => {
    await proxy.close()
    await Promise.all(nodes.map(({ host }) => host.kill()))
    await rm(folder, { recursive: true, force: true })
  }
  const journal = fileJournal(join(folder, 'journal.jsonl'))
  return { nodes, proxy, url: `${proxy.origin}/mcp`, journal, close }
}
