import { NodeStreamableHTTPServerTransport as NodeSessionTransport } from '@modelcontextprotocol/node'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server'
import type { NodeTransport, SessionOptions, WebTransport } from './sdk-lines.ts'
import { buildServerV2 } from './server-v2.ts'
import { transportOptions } from './transport-options.ts'

export { buildServerV2 as buildServer }

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
  await buildServerV2(options.journal).connect(transport)
  return transport
}
