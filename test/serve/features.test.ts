import { serveNodes } from '../support/serve-nodes.ts'
import { features } from '../support/suites/features.ts'

// Everything that a session can do, each request at the next node: no client can tell that a process is behind it.
features('serve, stdio, two nodes', {
  client: 'v1',
  sameSessionId: false,
  start: () => serveNodes({ form: 'stdio' }),
})
