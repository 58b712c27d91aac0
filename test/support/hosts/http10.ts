// A small MCP server that speaks HTTP/1.0, as no framework would: no chunks and no lengths, each connection ends with its answer,
// and the head of an answer comes with its first byte. It keeps its sessions in memory. By environment: PORT.
import { createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

interface Request {
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

interface Message {
  readonly id?: number | string
  readonly method?: string
  readonly params?: { name?: string; _meta?: { progressToken?: number | string } }
}

const sessions = new Map<string, { counter: number }>()
const tools = [
  { name: 'counter', inputSchema: { type: 'object' } },
  { name: 'slow', inputSchema: { type: 'object' }, annotations: { readOnlyHint: true } },
]

createServer((socket) => {
  let text = ''
  socket.setEncoding('utf8').on('error', () => {})
  socket.on('data', (chunk) => {
    text += chunk
    const end = text.indexOf('\r\n\r\n')
    if (end < 0) return
    const [first = '', ...lines] = text.slice(0, end).split('\r\n')
    const headers = Object.fromEntries(
      lines.map((line) => [line.split(':', 1)[0]!.toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    )
    const body = text.slice(end + 4)
    // An HTTP/1.0 server knows no chunks: a body has a length.
    if (Buffer.byteLength(body) < Number(headers['content-length'] ?? 0)) return
    socket.removeAllListeners('data')
    void answer(socket, { method: first.split(' ')[0]!, headers, body })
  })
}).listen(Number(process.env.PORT), 'localhost')

async function answer(socket: Socket, { method, headers, body }: Request): Promise<void> {
  const id = headers['mcp-session-id']
  const session = sessions.get(id ?? '')
  if (method === 'DELETE') {
    sessions.delete(id ?? '')
    return void socket.end(head(200))
  }
  // The stream is open, and silent: not even its head is sent.
  if (method === 'GET' && session) return
  if (method !== 'POST') return void socket.end(head(405))
  const message = JSON.parse(body) as Message
  if (message.method === 'initialize') {
    const fresh = `s-${process.pid}-${sessions.size}`
    sessions.set(fresh, { counter: 0 })
    const result = {
      protocolVersion: '2025-11-25',
      capabilities: { tools: {} },
      serverInfo: { name: 'http10', version: '1' },
    }
    return void socket.end(
      head(200, `content-type: application/json\r\nmcp-session-id: ${fresh}\r\n`) + reply(message, result),
    )
  }
  if (!session) return void socket.end(head(404))
  if (message.id === undefined) return void socket.end(head(202))
  if (message.method === 'tools/list') return json(socket, message, { tools })
  if (message.method !== 'tools/call') return json(socket, message, {})
  if (message.params?.name === 'counter') {
    session.counter += 1
    return json(socket, message, said(String(session.counter)))
  }
  let opening = head(200, 'content-type: text/event-stream\r\n')
  for (let progress = 1; progress <= 10; progress += 1) {
    await sleep(100)
    const params = { progressToken: message.params?._meta?.progressToken, progress }
    socket.write(
      `${opening}data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params })}\n\n`,
    )
    opening = ''
  }
  socket.end(`data: ${reply(message, said('done'))}\n\n`)
}

function said(text: string): object {
  return { content: [{ type: 'text', text }] }
}

function json(socket: Socket, message: Message, result: object): void {
  socket.end(head(200, 'content-type: application/json\r\n') + reply(message, result))
}

function reply({ id }: Message, result: object): string {
  return JSON.stringify({ jsonrpc: '2.0', id, result })
}

function head(status: number, headers = ''): string {
  return `HTTP/1.0 ${status} Status\r\nconnection: close\r\n${headers}\r\n`
}
