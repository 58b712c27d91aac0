import { expect, it } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { conformanceApp } from '../support/apps/conformance-app.ts'
import { buildConformanceServer } from '../support/apps/conformance-server.ts'
import { backends, storeSpace } from '../support/backends.ts'
import { listening } from '../support/net/listen.ts'
import { conformance, failures } from './suite.ts'

// The factory has nobody who checks the Host header: its author would put a framework around it.
const shapes = {
  'an Express app': { app: conformanceApp, lacks: /^$/ },
  'a factory': { app: () => buildConformanceServer, lacks: /^dns-rebinding-protection/ },
}
// The app in three processes meets the other backends in cluster.test.ts.
const places = [
  ['an Express app', 'sqlite', shapes['an Express app']] as const,
  ...backends.map((backend) => ['a factory', backend, shapes['a factory']] as const),
]

it.each(places)(
  '%s wrapped on %s passes every check of the official suite',
  { timeout: 240_000 },
  async (_, backend, { app, lacks }) => {
    const space = await storeSpace(backend)
    const handler = withPersistence(app(), space.url, { retryInterval: 500 })
    const { origin } = await listening(handler.listen(0, '127.0.0.1'))
    try {
      const checks = await conformance(`${origin}/mcp`)
      expect(failures(checks).filter((failure) => !lacks.test(failure))).toEqual([])
      expect(checks.size).toBeGreaterThanOrEqual(84)
    } finally {
      await handler.close({ deadline: 0 })
      await space.remove()
    }
  },
)
