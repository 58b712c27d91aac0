import { appShape } from '../support/apps/app-shapes.ts'
import { type Backend, storeSpace } from '../support/backends.ts'
import { serveWrapped, type Wrapped } from '../support/serve.ts'
import { features } from '../support/suites/features.ts'

const options = { retryInterval: 20, ttl: 60 }

async function serve(name: string, backend: Backend): Promise<Wrapped> {
  const space = await storeSpace(backend)
  const served = await serveWrapped(appShape(name), { store: space.url, options })
  const close = async () => {
    await served.close()
    await space.remove()
  }
  return { ...served, close }
}

// What the memory store and SQLite are tested with elsewhere, over the network.
for (const backend of ['redis', 'redis-cluster', 'postgres'] as const) {
  for (const name of ['factory', 'express5']) {
    features(`${name} wrapped, on ${backend}`, {
      client: appShape(name).sdk,
      start: () => serve(name, backend),
    })
  }
}
