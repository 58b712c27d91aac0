import type { RequestListener } from 'node:http'
import type { Store } from '../../src/index.ts'
import { type Guard, guardedApp, nodeListener } from '../support/apps/guarded.ts'
import { listen, listening } from '../support/net/listen.ts'
import type { Framework, Kind } from './kinds.ts'
import type { Package } from './package.ts'
import { Wire } from './wire.ts'

/** One server that requests go to. */
export interface Node {
  readonly wire: Wire
  readonly url: string
  close(): Promise<void>
}

/** The app as its author serves it. */
export async function unwrappedNode(framework: Framework, guard: Guard): Promise<Node> {
  const { port, origin, close } = await listen(await listenerOf(framework, guard))
  return node(port, `${origin}/mcp`, close)
}

/** The same app, wrapped. */
export async function wrappedNode(
  { framework, identity }: Kind,
  guard: Guard,
  { pkg, store, log }: { pkg: Package; store: Store; log: (line: string) => void },
): Promise<Node> {
  const behind = framework === 'url' ? await listen(await listenerOf('url', guard)) : undefined
  const app = behind ? { url: behind.origin } : guardedApp(framework as 'express', guard).app
  const at = (level: string) => (facts: object, message: string) =>
    log(`${level} ${message} ${JSON.stringify(facts)}`)
  const logger = { debug: () => {}, info: () => {}, warn: at('warn'), error: at('error') }
  const handler = pkg.withPersistence(app, store, { logger, ...identity.options })
  const served = await listening(handler.listen(0, '127.0.0.1'))
  return node(served.port, `${served.origin}/mcp`, async () => {
    await handler.close({ deadline: 0 })
    await served.close()
    await behind?.close()
  })
}

function node(port: number, url: string, close: () => Promise<void>): Node {
  const wire = new Wire(port)
  return {
    wire,
    url,
    close: async () => {
      wire.close()
      await close()
    },
  }
}

async function listenerOf(framework: Framework, guard: Guard): Promise<RequestListener> {
  const { app } = guardedApp(framework === 'url' ? 'express' : framework, guard)
  return nodeListener(app)
}
