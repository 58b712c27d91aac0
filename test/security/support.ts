import { onTestFinished } from 'vitest'
import {
  MemoryEventStore,
  type PersistentHandler,
  type PersistOptions,
  type Store,
  type WrappableApp,
  withPersistence,
} from '../../src/index.ts'
import {
  type Guard,
  type GuardedFramework,
  guardedApp,
  guardedFrameworks,
  nodeListener,
} from '../support/apps/guarded.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type Journal, memoryJournal } from '../support/journal.ts'
import { listen, listening } from '../support/net/listen.ts'

/** What users wrap, `url` being an Express app in a server of its own. */
export const guardedFronts = [...guardedFrameworks, 'url'] as const
export type GuardedFront = (typeof guardedFronts)[number]

export interface Line {
  readonly level: string
  readonly facts: Record<string, unknown>
  readonly message: string
}

/** A logger that keeps what it is told. */
export function keepLog() {
  const lines: Line[] = []
  const at = (level: string) => (facts: object, message: string) =>
    void lines.push({ level, facts: facts as Record<string, unknown>, message })
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

export interface Guarded {
  readonly url: string
  readonly handler: PersistentHandler
  readonly log: ReturnType<typeof keepLog>
  readonly sweep: () => void
  readonly seen: () => number
  /** The process ends in good order: its sessions are to be had. */
  leave(): Promise<void>
}

export interface House {
  readonly store: Store
  readonly journal: Journal
  readonly users: Map<string, string>
  /** One more node, with an app of its own. */
  node(): Promise<Guarded>
  /** A client that is ready to speak, with the token in `header`. */
  open(node: Guarded, token: string): Promise<RawClient>
  as(client: RawClient, token: string | undefined, node: Guarded): RawClient
}

/** Nodes with an app that knows its users, over one store. */
export function house(
  front: GuardedFront,
  guard: Omit<Guard, 'journal' | 'users'> & { users: Record<string, string> },
  options: PersistOptions = {},
): House {
  const store = new MemoryEventStore()
  const journal = memoryJournal()
  const users = new Map(Object.entries(guard.users))
  onTestFinished(() => store.close())
  const headersOf = (token: string | undefined): Record<string, string> => {
    if (token === undefined) return {}
    const { header = 'authorization' } = guard
    return { [header]: header === 'authorization' ? `Bearer ${token}` : token }
  }
  return {
    store,
    journal,
    users,
    async node() {
      const framework = front === 'url' ? 'express' : front
      const { app, sweep, seen } = guardedApp(framework, { ...guard, journal, users })
      const served = await serveApp(front === 'url' ? await behindUrl(app) : app, store, options)
      return { ...served, sweep, seen }
    },
    async open(node, token) {
      const client = await RawClient.open(node.url, { headers: headersOf(token) })
      onTestFinished(() => client.close())
      return client
    },
    as(client, token, node) {
      const other = client.clone(node.url)
      other.headers = headersOf(token)
      onTestFinished(() => other.close())
      return other
    },
  }
}

async function behindUrl(app: WrappableApp): Promise<WrappableApp> {
  const { origin, close } = await listen(await nodeListener(app))
  onTestFinished(close)
  return { url: origin }
}

/** The same app without us: the measure. */
export async function unwrappedHouse(
  framework: GuardedFramework,
  guard: Omit<Guard, 'journal' | 'users'> & { users: Record<string, string> },
) {
  const users = new Map(Object.entries(guard.users))
  const { app } = guardedApp(framework, { ...guard, journal: memoryJournal(), users })
  const { origin, close } = await listen(await nodeListener(app))
  onTestFinished(close)
  const url = `${origin}/mcp`
  return {
    url,
    async open(token: string) {
      const client = await RawClient.open(url, { headers: { authorization: `Bearer ${token}` } })
      onTestFinished(() => client.close())
      return client
    },
  }
}

/** Serves a wrapped app on a port of its own, and closes it when the test is over. */
export async function serveApp(app: WrappableApp, store: Store | string, options: PersistOptions = {}) {
  const log = keepLog()
  const handler = withPersistence(app, store, { logger: log, ...options })
  const server = handler.listen(0, '127.0.0.1')
  const { origin, close } = await listening(server)
  const leave = () => handler.close({ deadline: 0 })
  onTestFinished(async () => {
    await leave()
    await close()
  })
  return { url: `${origin}/mcp`, log, leave, handler }
}

export async function statusOf(response: Promise<Response>): Promise<number> {
  const answer = await response
  await answer.text().catch(() => '')
  return answer.status
}
