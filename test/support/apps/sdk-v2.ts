import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server'
import { openings } from './openings.ts'
import { buildServerV2 } from './server-v2.ts'

export { buildServerV2 as buildServer }

export const { openNodeSession, openWebSession } = openings(
  NodeStreamableHTTPServerTransport,
  WebStandardStreamableHTTPServerTransport,
  (transport, { journal }) => buildServerV2(journal).connect(transport),
)
