// Serves one app shape in a process of its own. By environment: MCP_TEST_SHAPE, MCP_TEST_APP (JSON, the app's
// options), MCP_TEST_STORE (a store URL; empty: unwrapped), MCP_TEST_OPTIONS (JSON, for withPersistence),
// MCP_TEST_URL (wrap that server instead of the shape), MCP_TEST_JOURNAL (a file), MCP_TEST_DEADLINE (ms that an ordered end may take), PORT.
import { createServer, type RequestListener } from 'node:http'
import { appShape } from '../apps/app-shapes.ts'
import { principalOf } from '../apps/auth.ts'
import { fileJournal } from '../journal.ts'
import { loadPackage } from '../package.ts'
import { ready } from './ready.ts'

const { env } = process
const port = Number(env.PORT ?? 0)
const options = JSON.parse(env.MCP_TEST_OPTIONS ?? '{}')
const { stableId, ...appOptions } = JSON.parse(env.MCP_TEST_APP ?? '{}')
const journal = fileJournal(env.MCP_TEST_JOURNAL ?? '/dev/null')
const { withPersistence, persistentSessionId } = await loadPackage()
const shape = appShape(env.MCP_TEST_SHAPE ?? 'express5')
const { app: built, unwrapped } = await shape.build({
  ...appOptions,
  ...(stableId && { generateId: persistentSessionId }),
  journal,
})
const app = env.MCP_TEST_URL ? { url: env.MCP_TEST_URL } : built

if (env.MCP_TEST_STORE) {
  const principal = (request: { headers: Headers }) => principalOf(request.headers.get('authorization'))
  const handler = withPersistence(app as never, env.MCP_TEST_STORE, {
    ...options,
    ...(options.principal && { principal }),
  })
  const server = handler.listen(port, '127.0.0.1')
  ready(server, () => handler.close({ deadline: Number(env.MCP_TEST_DEADLINE ?? 2000) }))
} else {
  const listener: RequestListener = await unwrapped()
  const server = createServer(listener).listen(port, '127.0.0.1')
  ready(server, async () => void server.close())
}
