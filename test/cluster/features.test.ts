import { appShape } from '../support/apps/app-shapes.ts'
import { type Backend, storeSpace } from '../support/backends.ts'
import { serveCluster } from '../support/cluster.ts'
import { features } from '../support/suites/features.ts'

const cells: readonly (readonly [Backend, string])[] = [
  ['sqlite', 'factory'],
  ['sqlite', 'express5'],
  ['redis', 'factory'],
  ['redis', 'factory-v2'],
  ['redis', 'express5'],
  ['redis-cluster', 'factory'],
  ['postgres', 'factory-v2'],
  ['postgres', 'express5'],
]

// The same as in e2e/unwrapped.test.ts, with three nodes and each request to the next one: no client can tell.
for (const [backend, name] of cells) {
  const shape = appShape(name)
  features(`${name} on three nodes, on ${backend}`, {
    client: shape.sdk,
    async start() {
      const space = await storeSpace(backend)
      const cluster = await serveCluster(shape, { store: space.url })
      const close = async () => {
        await cluster.close()
        await space.remove()
      }
      return { ...cluster, close }
    },
  })
}
