// One server process: `server.ts <express|hono|factory> [store url] [timed|counted]`; without a store it runs without us.
// It answers the questions below over its IPC channel. `timed` and `counted` are for a factory.
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { openStore, type Store, withPersistence } from 'mcp-persist'
import { buildServer, expressApp, factoryListener, honoApp } from './apps.ts'
import { counted } from './counts.ts'
import { now, type Span, timed } from './spans.ts'

const [shape, url, how] = process.argv.slice(2)
const spans: Span[] = []
const counts: Record<string, number> = {}

const answers: Record<string, () => unknown> = {
  cpu: () => process.cpuUsage(),
  /** After a collection; `rss` is what the system has given, and may keep what is free inside. */
  memory: () => {
    for (let i = 0; i < 3; i += 1) globalThis.gc?.()
    return process.memoryUsage()
  },
  /** Since the question before. */
  spans: () => spans.splice(0),
  /** Operations on the store since the start. */
  counts: () => counts,
}
process.once('disconnect', () => process.exit(0))
process.on('message', (question: string) => process.send?.({ [question]: answers[question]?.() }))

if (url) {
  const app = shape === 'express' ? expressApp() : shape === 'hono' ? honoApp() : () => buildServer(onRun)
  // What is due once in a tenth of the ttl shall be seen within a minute.
  const ttl = how === 'counted' ? 600 : 3600
  const handler = withPersistence(app as Parameters<typeof withPersistence>[0], watched(url), ttl)
  announce(handler.listen(0, '127.0.0.1'))
} else if (shape === 'hono') {
  announce(serve({ fetch: honoApp().fetch, port: 0, hostname: '127.0.0.1' }) as Server)
} else {
  announce(createServer(shape === 'express' ? expressApp() : factoryListener()).listen(0, '127.0.0.1'))
}

function watched(storeUrl: string): string | Store {
  if (how === 'timed') return timed(openStore(storeUrl), spans)
  return how === 'counted' ? counted(openStore(storeUrl), counts) : storeUrl
}

function onRun(): () => void {
  if (how !== 'timed') return () => {}
  const from = now()
  return () => void spans.push({ what: 'app', from, to: now() })
}

function announce(server: Server): void {
  // A connection may be idle while the other server has its turn.
  server.keepAliveTimeout = 120_000
  server.once('listening', () => process.send?.({ port: (server.address() as AddressInfo).port }))
}
