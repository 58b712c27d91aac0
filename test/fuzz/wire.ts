import { connect, type Socket } from 'node:net'
import { type Parsed, parseResponse } from './response.ts'

/** What became of one request. */
export interface Outcome extends Parsed {
  /** `open`: a stream that goes on. `closed`: before the answer was complete. `silent`: nothing came in time. */
  readonly end: 'complete' | 'open' | 'closed' | 'silent'
}

export interface Asking {
  readonly method: string
  /** These bytes may be more or less than one request: the connection is used for nothing else, and nothing follows. */
  readonly odd: boolean
}

// Milliseconds, and how often: a machine that stands still for a while is counted once.
export const PATIENCE = 250
export const TIMES = 40
// Milliseconds.
/** What a stream that stays open has to say at once, it says in this time. */
export const FIRST_WORDS = 25
/** An answer is complete, and the bytes were odd ones: another may follow. */
const AFTERWARDS = 25

/** Sends bytes as they are to one server, over connections that are used again where that can be. */
export class Wire {
  readonly #port: number
  readonly #idle: Socket[] = []
  readonly #open = new Set<Socket>()

  constructor(port: number) {
    this.#port = port
  }

  async ask(bytes: Buffer, asking: Asking): Promise<Outcome> {
    const used = asking.odd ? undefined : this.#idle.pop()
    if (used) {
      const outcome = await this.#exchange(used, bytes, asking)
      // The server had just closed it, as it may.
      if (outcome.end !== 'closed' || outcome.text !== '') return outcome
    }
    return this.#exchange(this.#connect(), bytes, asking)
  }

  close(): void {
    for (const socket of this.#open) socket.destroy()
  }

  #connect(): Socket {
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    this.#open.add(socket)
    socket.setEncoding('latin1')
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#open.delete(socket)
      const i = this.#idle.indexOf(socket)
      if (i >= 0) this.#idle.splice(i, 1)
    })
    return socket
  }

  #exchange(socket: Socket, bytes: Buffer, { method, odd }: Asking): Promise<Outcome> {
    return new Promise((resolve) => {
      let text = ''
      let parsed = parseResponse(text, method)
      let timer: NodeJS.Timeout | undefined
      const after = (ms: number, end: Outcome['end']) => {
        clearTimeout(timer)
        timer = setTimeout(done, ms, end)
      }
      const done = (end: Outcome['end']) => {
        clearTimeout(timer)
        socket.removeAllListeners('data').off('close', onClose).off('end', onClose)
        const again = end === 'complete' && !odd && parsed.keepAlive && parsed.rest === ''
        if (again) this.#idle.push(socket)
        else socket.destroy()
        resolve({ ...parsed, end })
      }
      const onClose = () => done(parsed.complete || parsed.untilClose ? 'complete' : 'closed')
      socket.on('data', (chunk: string) => {
        text += chunk
        parsed = parseResponse(text, method)
        if (parsed.complete) {
          if (odd) after(AFTERWARDS, 'complete')
          else done('complete')
        } else if (parsed.isStream && method === 'GET') after(FIRST_WORDS, 'open')
      })
      socket.on('close', onClose).on('end', onClose)
      let times = TIMES
      const wait = () => {
        times -= 1
        if (times === 0) return done('silent')
        timer = setTimeout(wait, PATIENCE)
      }
      wait()
      socket.write(bytes)
    })
  }
}
