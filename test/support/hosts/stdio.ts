// Serves the test server on the v1 SDK over its standard input and output. By environment: MCP_TEST_JOURNAL (a file).
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { buildServerV1 } from '../apps/server-v1.ts'
import { fileJournal } from '../journal.ts'

const server = buildServerV1(fileJournal(process.env.MCP_TEST_JOURNAL ?? '/dev/null'))
// Over stdio a session is a process.
const transport = Object.assign(new StdioServerTransport(), { sessionId: `process ${process.pid}` })
process.stdin.once('end', () => void server.close())
await server.connect(transport)
