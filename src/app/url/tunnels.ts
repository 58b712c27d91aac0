import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { Stop } from '../../stop.ts'
import { collect, endToEnd, forward } from './headers.ts'
import { relay, remoteOf } from './pass.ts'
import type { Upstream } from './upstream.ts'

const MAX_TUNNELS = 1000

/** Connections that left HTTP behind (WebSocket): bytes go to and fro, with back-pressure, until either end is gone. */
export class Tunnels {
  readonly #upstream: Upstream
  readonly #open = new Set<Duplex>()
  #closed = false

  constructor(upstream: Upstream) {
    this.#upstream = upstream
  }

  /** Takes over the connection of an upgrade request. Never rejects. */
  async open(req: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const gone = new Stop()
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      this.#open.delete(socket)
      gone.stop()
    })
    if (this.#closed || this.#open.size >= MAX_TUNNELS) return refuse(socket, '503 Service Unavailable')
    this.#open.add(socket)
    const headers = forward(collect(endToEnd(req.rawHeaders)), remoteOf(socket))
    try {
      const answer = await this.#upstream.upgrade({
        method: req.method ?? 'GET',
        target: req.url ?? '/',
        headers: { ...headers, connection: 'Upgrade', upgrade: req.headers.upgrade },
        signal: gone,
      })
      if (answer.socket) join(socket, head, answer)
      else await refusedBy(answer.response, req, socket)
    } catch {
      refuse(socket, '502 Bad Gateway')
    }
  }

  /** Ends them all: whoever is at their ends connects again, elsewhere. */
  close(): void {
    this.#closed = true
    for (const socket of this.#open) socket.destroy()
  }
}

interface Switched {
  readonly response: IncomingMessage
  readonly socket: Duplex
  readonly head: Buffer
}

function join(client: Socket, sent: Buffer, { response, socket: server, head }: Switched): void {
  const lines = endToEnd(response.rawHeaders).map(([name, value]) => `${name}: ${value}`)
  const switched = [
    'HTTP/1.1 101 Switching Protocols',
    'connection: Upgrade',
    `upgrade: ${response.headers.upgrade}`,
  ]
  client.write(`${[...switched, ...lines].join('\r\n')}\r\n\r\n`)
  if (head.byteLength > 0) client.write(head)
  if (sent.byteLength > 0) server.write(sent)
  // A peer that is gone without a word is found by the system, however long the two have nothing to say.
  for (const end of [client, server as Socket]) {
    end.setTimeout(0)
    end.setNoDelay(true)
    end.setKeepAlive(true, 60_000)
  }
  client.pipe(server).pipe(client)
  client.once('close', () => server.destroy())
  server.on('error', () => client.destroy())
  server.once('close', () => client.destroy())
}

/** The server answered like any other request: so do we, and the connection is over. */
async function refusedBy(response: IncomingMessage, req: IncomingMessage, socket: Socket): Promise<void> {
  const res = new ServerResponse(req)
  res.shouldKeepAlive = false
  res.assignSocket(socket)
  res.once('finish', () => socket.end())
  await relay(response, res)
}

function refuse(socket: Socket, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
}
