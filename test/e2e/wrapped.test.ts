import { appShapes } from '../support/apps/app-shapes.ts'
import { serveWrapped } from '../support/serve.ts'
import { features } from '../support/suites/features.ts'

// The same as in unwrapped.test.ts, with the app wrapped: no client can tell.
for (const shape of appShapes) {
  features(`${shape.name} wrapped, on memory`, {
    client: shape.sdk,
    start: () => serveWrapped(shape),
  })
}

// An app that already has an event store of its own, and clients of the other line.
for (const shape of appShapes.filter(({ name }) => /^(express5|hono|factory)(-v2)?$/.test(name))) {
  features(`${shape.name} with its own event store, wrapped, on SQLite`, {
    client: shape.sdk === 'v1' ? 'v2' : 'v1',
    start: () => serveWrapped(shape, { store: 'sqlite::memory:', app: { eventStore: true } }),
  })
}
