// Serves the test server on the v1 SDK from a factory, in a process of its own that loads nothing else: it starts in a third
// of the time of `app.ts`. By environment: MCP_TEST_STORE (a store URL), MCP_TEST_OPTIONS (JSON, for withPersistence),
// MCP_TEST_JOURNAL (a file), MCP_TEST_DEADLINE (ms that an ordered end may take), PORT.
import { buildServerV1 } from '../apps/server-v1.ts'
import { fileJournal } from '../journal.ts'
import { loadPackage } from '../package.ts'
import { ready } from './ready.ts'

const { env } = process
const { withPersistence } = await loadPackage()
const journal = fileJournal(env.MCP_TEST_JOURNAL!)
const options = JSON.parse(env.MCP_TEST_OPTIONS ?? '{}')
const handler = withPersistence(() => buildServerV1(journal), env.MCP_TEST_STORE!, options)
ready(handler.listen(Number(env.PORT ?? 0), '127.0.0.1'), () =>
  handler.close({ deadline: Number(env.MCP_TEST_DEADLINE ?? 2000) }),
)
