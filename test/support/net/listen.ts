import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Listening {
  readonly origin: string
  readonly port: number
  readonly server: Server
  close(): Promise<void>
}

/** Serves on loopback; `close` does not wait for open streams. */
export async function listen(listener: RequestListener, port = 0): Promise<Listening> {
  return listening(createServer(listener).listen(port, '127.0.0.1'))
}

/** Waits for a server that somebody has told to listen. */
export async function listening(server: Server): Promise<Listening> {
  if (!server.listening) {
    await new Promise<void>((resolve, reject) => {
      server.once('listening', resolve)
      server.once('error', reject)
    })
  }
  const bound = (server.address() as AddressInfo).port
  return {
    origin: `http://127.0.0.1:${bound}`,
    port: bound,
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** A port that was free a moment ago, for a server that must come back on the same one. */
export async function freePort(): Promise<number> {
  const { port, close } = await listen(() => {})
  await close()
  return port
}
