import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { openings } from './openings.ts'
import { buildServerV1 } from './server-v1.ts'

export { buildServerV1 as buildServer }

export const { openNodeSession, openWebSession } = openings(
  StreamableHTTPServerTransport,
  WebStandardStreamableHTTPServerTransport,
  (transport, { journal, tools }) =>
    // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
    buildServerV1(journal, tools).connect(transport as unknown as Transport),
)
