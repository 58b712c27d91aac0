import type { Wire } from './wire.ts'

/** Opens a session for one request; resolves with its id. */
export async function openFresh(wire: Wire, credential: string): Promise<string> {
  const say = (message: object, ...more: string[]) => {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message })
    const head = ['POST /mcp HTTP/1.1', 'Host: localhost', credential, ...HEADERS, ...more]
    const bytes = Buffer.from([...head, `Content-Length: ${body.length}`, '', body].join('\r\n'))
    return wire.ask(bytes, { method: 'POST', odd: false })
  }
  const opened = await say({ id: 0, method: 'initialize', params: PARAMS })
  const id = opened.headers.get('mcp-session-id')
  if (id === undefined) throw new Error(`A session could not be opened (${opened.end}): ${opened.text}`)
  await say({ method: 'notifications/initialized' }, `Mcp-Session-Id: ${id}`)
  return id
}

const HEADERS = ['Content-Type: application/json', 'Accept: application/json, text/event-stream']
const PARAMS = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'fuzz', version: '1' } }
