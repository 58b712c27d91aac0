import { connect, createServer, type Server, type Socket } from 'node:net'

/** A network between a store and its server, whose connections can be cut at will, also before an answer gets through. */
export class TcpProxy {
  readonly #target: { readonly host: string; readonly port: number }
  readonly #pairs = new Set<{ readonly client: Socket; readonly server: Socket }>()
  readonly #server: Server
  #swallow = false
  /** Drawn for each new connection: the bytes, there and back, that pass before it is cut in mid-word. Default no limit. */
  life: (() => number) | undefined
  cuts = 0

  private constructor(url: URL, defaultPort: number) {
    this.#target = { host: url.hostname, port: Number(url.port || defaultPort) }
    this.#server = createServer((client) => this.#join(client))
  }

  /** Listens on a port of its own; `urlOf` leads a URL of the server through it. */
  static async to(url: string, defaultPort: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(new URL(url), defaultPort)
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  urlOf(url: string): string {
    const through = new URL(url)
    through.hostname = '127.0.0.1'
    through.port = String((this.#server.address() as { port: number }).port)
    return through.toString()
  }

  /** `now`: every connection. `answer`: from now on the one that is answered next, once, without its answer. */
  async cut(what: 'now' | 'answer'): Promise<void> {
    if (what === 'answer') this.#swallow = true
    else for (const pair of this.#pairs) destroy(pair)
  }

  async close(): Promise<void> {
    await this.cut('now')
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #join(client: Socket): void {
    const pair = { client, server: connect(this.#target) }
    this.#pairs.add(pair)
    for (const socket of [pair.client, pair.server]) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#pairs.delete(pair)
        destroy(pair)
      })
    }
    let left = this.life?.() ?? Number.POSITIVE_INFINITY
    const pass = (from: Socket, to: Socket, chunk: Buffer) => {
      left -= chunk.length
      if (left < 0) {
        this.cuts += 1
        // What came before the cut gets through: a half statement, a whole one whose answer does not.
        to.write(chunk.subarray(0, chunk.length + left), () => destroy(pair))
      } else if (!to.write(chunk)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
    }
    client.on('data', (chunk) => left >= 0 && pass(client, pair.server, chunk))
    pair.server.on('data', (chunk) => {
      if (left < 0) return
      if (!this.#swallow) return pass(pair.server, client, chunk)
      this.#swallow = false
      destroy(pair)
    })
  }
}

function destroy({ client, server }: { readonly client: Socket; readonly server: Socket }): void {
  client.destroy()
  server.destroy()
}
