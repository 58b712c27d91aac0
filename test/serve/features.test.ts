import { serveNodes } from '../support/serve-nodes.ts'
import { features } from '../support/suites/features.ts'

// Everything that a session can do, and each request to the next node: no client can tell.
for (const form of ['http', 'stdio'] as const) {
  features(`serve, ${form}, two nodes`, {
    client: 'v1',
    sameSessionId: form === 'http',
    start: () => serveNodes({ form }),
  })
}
