import { type IncomingMessage, request, type ServerResponse } from 'node:http'

export interface ForwardOptions {
  /** The request's body, where it has been read already. */
  readonly body?: Buffer
  /** No connection came about, so nothing was sent. Default: 502. */
  readonly onUnreachable?: () => void
}

/**
 * Sends a request on and streams the answer back. A backend that cannot be reached gives 502, one that dies in
 * the middle a broken connection. `send` may take over how the answer's body is written.
 */
export function forward(
  backend: string,
  req: IncomingMessage,
  res: ServerResponse,
  send: (answer: IncomingMessage) => void = (answer) => void answer.pipe(res),
  { body, onUnreachable }: ForwardOptions = {},
): void {
  const { hostname, port } = new URL(backend)
  const { url, method, headers } = req
  const upstream = request({ hostname, port, path: url, method, headers, agent: false })
  upstream.on('response', (answer) => {
    // Of this connection only. Node accepts one in a turn: clients that come anew each time wait for each other.
    const { connection: _, 'keep-alive': __, ...headers } = answer.headers
    res.writeHead(answer.statusCode ?? 502, headers)
    res.flushHeaders()
    answer.on('error', () => res.destroy())
    send(answer)
  })
  upstream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.syscall === 'connect' && onUnreachable) return onUnreachable()
    if (res.headersSent) res.destroy()
    else res.writeHead(502).end()
  })
  res.on('close', () => upstream.destroy())
  if (body) upstream.end(body)
  else req.pipe(upstream)
}
