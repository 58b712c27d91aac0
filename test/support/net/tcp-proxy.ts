import { connect, createServer, type Server, type Socket } from 'node:net'

/** A network between a store and its server, whose connections can be cut at will, also before an answer gets through. */
export class TcpProxy {
  readonly #target: { readonly host: string; readonly port: number }
  readonly #pairs = new Set<{ readonly client: Socket; readonly server: Socket }>()
  readonly #server: Server
  #swallow = false

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
    client.pipe(pair.server)
    pair.server.on('data', (chunk) => {
      if (this.#swallow) {
        this.#swallow = false
        destroy(pair)
      } else if (!client.write(chunk)) {
        pair.server.pause()
        client.once('drain', () => pair.server.resume())
      }
    })
  }
}

function destroy({ client, server }: { readonly client: Socket; readonly server: Socket }): void {
  client.destroy()
  server.destroy()
}
