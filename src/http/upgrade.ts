import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Lets `open` have the upgrade requests that `takes` says are its own. A server with a listener for upgrades gets every request
 * that merely offers one, as clients that would like to speak HTTP/2 do; those are served like any other, without the offer.
 */
export function serveUpgrades(
  server: Server,
  takes: (req: IncomingMessage) => boolean,
  open: (req: IncomingMessage, socket: Socket, head: Buffer) => void,
): void {
  server.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) => {
    if (takes(req)) return open(req, socket, head)
    // The parser has let go of the connection: it begins again with what it has read, as if it had come just now.
    socket.unshift(Buffer.concat([Buffer.from(withoutOffer(req), 'latin1'), head]))
    server.emit('connection', socket)
  })
}

function withoutOffer({ method, url, httpVersion, rawHeaders }: IncomingMessage): string {
  const lines = [`${method} ${url} HTTP/${httpVersion}`]
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (/^(?:upgrade|http2-settings)$/i.test(name)) continue
    if (!/^connection$/i.test(name)) lines.push(`${name}: ${rawHeaders[i + 1]}`)
    else if (/\bclose\b/i.test(rawHeaders[i + 1]!)) lines.push('connection: close')
  }
  return `${lines.join('\r\n')}\r\n\r\n`
}
