import { expect, it } from 'vitest'
import { openStore, withPersistence } from '../../src/index.ts'
import { conformanceApp } from '../support/apps/conformance-app.ts'
import { backends, storeSpace } from '../support/backends.ts'
import { listening } from '../support/net/listen.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { conformance, failures } from './suite.ts'

// As one process without us: see unwrapped.test.ts.
it.each(backends)(
  'three nodes on %s behind a strict round robin pass every check of the official suite',
  {
    timeout: 240_000,
  },
  async (backend) => {
    const space = await storeSpace(backend)
    const stores = [0, 1, 2].map(() => openStore(space.url))
    const handlers = stores.map((store) => withPersistence(conformanceApp(), store, { retryInterval: 500 }))
    const nodes = await Promise.all(handlers.map((handler) => listening(handler.listen(0, '127.0.0.1'))))
    const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
    try {
      const checks = await conformance(`${proxy.origin}/mcp`)
      expect(failures(checks)).toEqual([])
      expect(checks.size).toBeGreaterThanOrEqual(84)
      for (const { origin } of nodes) expect(proxy.counts.get(origin)).toBeGreaterThan(20)
    } finally {
      await proxy.close()
      await Promise.all(handlers.map((handler) => handler.close({ deadline: 0 })))
      await Promise.all(stores.map((store) => store.close()))
      await space.remove()
    }
  },
)
