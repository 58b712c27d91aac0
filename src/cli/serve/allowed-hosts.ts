import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

const LOOPBACK = /^(?:localhost|(?:[a-z0-9-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])$/i

/** The names that a server on this address answers to, beside those that it was given; undefined: to any. */
export function hostsFor(
  address: string,
  given: string | undefined,
): ((name: string) => boolean) | undefined {
  const names = given?.split(',').map((name) => name.trim().toLowerCase())
  if (names?.includes('*')) return undefined
  const isLoopback = LOOPBACK.test(address.includes(':') ? `[${address}]` : address)
  if (!isLoopback && !names) return undefined
  return (name) => LOOPBACK.test(name) || names?.includes(name.toLowerCase()) === true
}

/**
 * Refuses requests for other names. Whoever's page is open in a browser on this machine can point a name of his own at it, and
 * would then read what is meant for local programs (DNS rebinding); the server behind us cannot see that, for it is always called
 * `localhost`.
 */
export function onlyFor(server: Server, isAllowed: (name: string) => boolean): void {
  guard(server, 'request', isAllowed, (res: ServerResponse, name) => {
    res.writeHead(403, { 'content-type': 'text/plain', connection: 'close' }).end(sentence(name))
  })
  guard(server, 'upgrade', isAllowed, (socket: Socket) => {
    socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
  })
}

function guard<T>(
  server: Server,
  event: string,
  isAllowed: (name: string) => boolean,
  refuse: (second: T, name: string) => void,
): void {
  const listeners = server.listeners(event)
  // Nobody takes upgrades: then Node serves them as any other request.
  if (listeners.length === 0) return
  server.removeAllListeners(event)
  server.on(event, (req: IncomingMessage, second: T, ...rest: unknown[]) => {
    // A browser always says one.
    const name = req.headers.host?.replace(/:\d*$/, '')
    if (name !== undefined && !isAllowed(name)) return refuse(second, name)
    for (const listener of listeners) Reflect.apply(listener, server, [req, second, ...rest])
  })
}

function sentence(name: string): string {
  return `This server is for programs on its own machine. If ${JSON.stringify(name)} is a name for it, say so: --allowed-hosts.\n`
}
