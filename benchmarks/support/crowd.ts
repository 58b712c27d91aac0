import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { atOnce } from './form.ts'

// Requests under way at once, and milliseconds that each may take.
const WIDTH = 32
const PATIENCE = 30_000

/** Many sessions at once, each request at the next port, with no more memory of our own than their sockets take. */
export class Crowd {
  readonly #ports: readonly number[]
  readonly #agent = new Agent({ keepAlive: true, maxSockets: WIDTH })
  readonly #streams = new Set<Socket>()
  readonly sessions: string[] = []
  #next = 0
  /** Streams that ended though nobody ended them here. */
  lost = 0

  constructor(ports: readonly number[]) {
    this.#ports = ports
  }

  async open(count: number): Promise<void> {
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'bench', version: '1.0.0' },
    }
    await atOnce(WIDTH, Array.from({ length: count }), async () => {
      const { session } = await this.#post({ jsonrpc: '2.0', id: 0, method: 'initialize', params })
      if (session === undefined) throw new Error('initialize was answered without a session id')
      await this.#post({ jsonrpc: '2.0', method: 'notifications/initialized' }, session)
      this.sessions.push(session)
    })
  }

  /** The standalone stream of every session. */
  async listen(): Promise<void> {
    await atOnce(WIDTH, this.sessions, (session) => this.#listen(session))
  }

  /** A tool call in some of the sessions; rejects unless each has its own answer, once, and no stream was lost. */
  async check(count: number): Promise<void> {
    const step = Math.max(1, Math.floor(this.sessions.length / count))
    const some = this.sessions.filter((_, i) => i % step === 0)
    await atOnce(WIDTH, some, async (session) => {
      const params = { name: 'echo', arguments: { text: `to ${session}` } }
      const { body } = await this.#post({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }, session)
      if (body.split(`to ${session}`).length !== 2) throw new Error(`lost or doubled: got ${body}`)
    })
    if (this.lost > 0) throw new Error(`${this.lost} standalone streams have ended by themselves`)
  }

  /** Connections that only sessions are opened with are none of what is measured. */
  rest(): void {
    this.#agent.destroy()
  }

  close(): void {
    this.rest()
    for (const socket of this.#streams) socket.removeAllListeners('close').destroy()
  }

  #port(): number {
    return this.#ports[this.#next++ % this.#ports.length]!
  }

  #listen(session: string): Promise<void> {
    const socket = connect(this.#port(), '127.0.0.1')
    this.#streams.add(socket)
    const head = [
      'GET /mcp HTTP/1.1',
      'host: 127.0.0.1',
      'accept: text/event-stream',
      `mcp-session-id: ${session}`,
      'mcp-protocol-version: 2025-11-25',
    ]
    socket.write(`${head.join('\r\n')}\r\n\r\n`)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => socket.destroy(new Error('a stream was not opened in time')), PATIENCE)
      socket.once('error', reject)
      socket.once('data', (chunk: Buffer) => {
        clearTimeout(timer)
        if (!chunk.toString().startsWith('HTTP/1.1 200')) {
          return reject(new Error(`a stream was refused: ${chunk.toString().split('\r\n', 1)[0]}`))
        }
        socket.off('error', reject)
        socket.on('error', () => {})
        socket.once('close', () => {
          this.lost += 1
        })
        socket.resume()
        resolve()
      })
    })
  }

  #post(message: object, session?: string): Promise<{ session: string | undefined; body: string }> {
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...(session !== undefined && { 'mcp-session-id': session, 'mcp-protocol-version': '2025-11-25' }),
    }
    const options = { host: '127.0.0.1', port: this.#port(), path: '/mcp', method: 'POST', headers }
    return new Promise((resolve, reject) => {
      const outgoing = request({ ...options, agent: this.#agent, timeout: PATIENCE }, (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('error', reject)
        response.on('end', () => {
          const opened = response.headers['mcp-session-id'] as string | undefined
          if (response.statusCode! < 300) resolve({ session: opened, body })
          else reject(new Error(`status ${response.statusCode}: ${body}`))
        })
      })
      outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')))
      outgoing.on('error', reject)
      outgoing.end(JSON.stringify(message))
    })
  }
}

/** How many files this process and its children may open; undefined where the system does not say. */
export function openFiles(): number | undefined {
  try {
    // Node has raised the soft limit to the hard one by itself.
    const line = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
    return line ? Number(line[1]) : undefined
  } catch {
    return undefined
  }
}
