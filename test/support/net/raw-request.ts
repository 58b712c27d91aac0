import { once } from 'node:events'
import { connect } from 'node:net'

/**
 * Sends bytes as they are to a server on loopback; resolves with all that came back when the server has closed the connection,
 * or has been silent for `silentMs`.
 */
export async function rawRequest(origin: string, bytes: string | Buffer, silentMs = 5000): Promise<string> {
  const { hostname, port } = new URL(origin)
  const socket = connect(Number(port), hostname)
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.on('error', () => {})
  socket.setTimeout(silentMs, () => socket.destroy())
  socket.write(bytes)
  await once(socket, 'close')
  return Buffer.concat(chunks).toString('latin1')
}

/** A request without a body, whose answer ends with the connection. */
export function get(
  target: string,
  headers: readonly string[] = ['host: localhost'],
  method = 'GET',
): Buffer {
  return Buffer.from(
    [`${method} ${target} HTTP/1.1`, ...headers, 'connection: close', '', ''].join('\r\n'),
    'latin1',
  )
}
