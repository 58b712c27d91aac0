// Serves the task server in a process of its own. By environment: MCP_TEST_STORE (a store URL), MCP_TEST_OPTIONS
// (JSON, for withPersistence), MCP_TEST_JOURNAL (a file), PORT.
import { buildTaskServer } from '../apps/task-server.ts'
import { fileJournal } from '../journal.ts'
import { loadPackage } from '../package.ts'
import { ready } from './ready.ts'

const { env } = process
const { openStore, withPersistence } = await loadPackage()
const journal = fileJournal(env.MCP_TEST_JOURNAL!)
const store = openStore(env.MCP_TEST_STORE!)
const factory = () => buildTaskServer(store, journal)
const handler = withPersistence(factory, store, JSON.parse(env.MCP_TEST_OPTIONS ?? '{}'))
ready(handler.listen(Number(env.PORT ?? 0), '127.0.0.1'), async () => {
  await handler.close({ deadline: 2000 })
  await store.close()
})
