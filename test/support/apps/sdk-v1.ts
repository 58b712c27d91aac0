import { StreamableHTTPServerTransport as NodeSessionTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import type { NodeTransport, SessionOptions, WebTransport } from './sdk-lines.ts'
import { buildServerV1 } from './server-v1.ts'
import { transportOptions } from './transport-options.ts'

export { buildServerV1 as buildServer }

export async function openNodeSession(options: SessionOptions): Promise<NodeTransport> {
  return opened(new NodeSessionTransport(transportOptions(options)), options)
}

export async function openWebSession(options: SessionOptions): Promise<WebTransport> {
  return opened(new WebStandardStreamableHTTPServerTransport(transportOptions(options)), options)
}

async function opened<T extends NodeSessionTransport | WebStandardStreamableHTTPServerTransport>(
  transport: T,
  options: SessionOptions,
): Promise<T> {
  transport.onclose = () => options.onClose(transport.sessionId ?? '')
  // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
  await buildServerV1(options.journal, options.tools).connect(transport as unknown as Transport)
  return transport
}
