import type { RequestListener } from 'node:http'
import { onTestFinished } from 'vitest'
import { type PersistOptions, withPersistence } from '../../../src/index.ts'
import { memoryJournal } from '../journal.ts'
import { listen } from '../net/listen.ts'
import { type ShapeOptions, serveWrapped, type Wrapped } from '../serve.ts'
import { type AppShape, appShape } from './app-shapes.ts'

/** What users wrap, by the names that a test is about. */
export const FRONTS = ['express5', 'express4', 'fastify', 'koa', 'node', 'hono', 'url'] as const
export type Front = (typeof FRONTS)[number]

/** Serves one of them wrapped, in this process; `url` is an Express app in a server of its own. Closed after the test. */
export async function serveFront(
  front: Front,
  { app = {}, ...wrap }: { app?: ShapeOptions; options?: PersistOptions; store?: Wrapped['store'] } = {},
): Promise<Wrapped> {
  const served = await serveWrapped(front === 'url' ? await behindUrl(app) : appShape(front), {
    app,
    ...wrap,
  })
  onTestFinished(() => served.close())
  return served
}

/** Several nodes that wrap one server in another process. */
export async function frontsOfOneServer(
  count: number,
  wrapped: { store: Wrapped['store']; options?: PersistOptions },
): Promise<readonly Wrapped[]> {
  const shape = await behindUrl({})
  const nodes = await Promise.all(Array.from({ length: count }, () => serveWrapped(shape, wrapped)))
  onTestFinished(async () => {
    // All leave the store before the first of them closes it.
    for (const { handler } of nodes) await handler.close({ deadline: 0 })
    for (const node of nodes) await node.close()
  })
  return nodes
}

async function behindUrl(app: ShapeOptions): Promise<AppShape> {
  const shape = appShape('express5')
  const journal = memoryJournal()
  const listener = (await (await shape.build({ ...app, journal })).unwrapped()) as RequestListener
  const upstream = await listen(listener)
  onTestFinished(() => upstream.close())
  return { ...shape, build: async () => ({ app: { url: upstream.origin }, unwrapped: () => listener }) }
}

/** Mounts or serves a wrapped app by hand. Closed after the test. */
export async function wrap(
  front: Exclude<Front, 'url'> | 'factory',
  { app = {}, options = {} }: { app?: ShapeOptions; options?: PersistOptions } = {},
): Promise<ReturnType<typeof withPersistence>> {
  const { app: built } = await appShape(front).build({ ...app, journal: memoryJournal() })
  const handler = withPersistence(built as Parameters<typeof withPersistence>[0], 'memory:', options)
  onTestFinished(() => handler.close({ deadline: 0 }))
  return handler
}

/** A logger that keeps what it is told. */
export function keptLogger() {
  const lines: { level: string; facts: Record<string, unknown>; message: string }[] = []
  const at = (level: string) => (facts: object, message: string) => {
    lines.push({ level, facts: facts as Record<string, unknown>, message })
  }
  return { lines, logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') } }
}
