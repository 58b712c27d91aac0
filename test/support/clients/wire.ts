import { connect } from 'node:net'
import { within } from '../wait.ts'

export interface WireAnswer {
  /** 0: the connection was closed without a word. */
  readonly status: number
  readonly head: string
  readonly body: string
}

/**
 * Sends `bytes` as they are, and reads until the server closes, or until `enough` of what has come. For requests that no HTTP
 * client would send.
 */
export async function onTheWire(
  origin: string,
  bytes: string | Buffer,
  enough: (received: string) => boolean = () => false,
): Promise<string> {
  const { hostname, port } = new URL(origin)
  const socket = connect(Number(port), hostname)
  let received = ''
  const over = new Promise<string>((resolve) => {
    socket.setEncoding('latin1').on('data', (text: string) => {
      received += text
      if (enough(received)) resolve(received)
    })
    socket.on('close', () => resolve(received)).on('error', () => resolve(received))
  })
  socket.write(bytes)
  try {
    return await within('an answer on the wire', over)
  } finally {
    socket.destroy()
  }
}

/** One request, and what became of it. */
export async function askRaw(
  origin: string,
  head: readonly string[],
  body: string | Buffer = '',
): Promise<WireAnswer> {
  const length = Buffer.byteLength(body)
  const lines = [...head, 'Connection: close', ...(length > 0 ? [`Content-Length: ${length}`] : [])]
  const bytes = Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(body)])
  // A stream has no end: its first bytes say that there is one.
  const text = await onTheWire(origin, bytes, (received) => /text\/event-stream.*\r\n\r\n./s.test(received))
  const [answered = '', ...rest] = text.split('\r\n\r\n')
  return { status: Number(answered.split(' ')[1] ?? 0), head: answered, body: rest.join('\r\n\r\n') }
}
