import { appShapes } from '../support/apps/app-shapes.ts'
import { serveUnwrapped } from '../support/serve.ts'
import { features } from '../support/suites/features.ts'

// The measure: what these apps do without us. A test that fails here says nothing about us.
for (const shape of appShapes) {
  features(`${shape.name} without us`, {
    client: shape.sdk,
    start: () => serveUnwrapped(shape, { eventStore: true }),
  })
}
