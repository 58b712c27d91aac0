import { connect, createServer, type Server, type Socket } from 'node:net'

/** A way to the server that can be shut, or made to go dead: then nothing comes through and nobody is told. */
export class Gate {
  readonly #port: number
  readonly #server: Server
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  readonly #dead = new Set<Socket>()
  #isShut = false
  #isDead = false

  private constructor(port: number) {
    this.#port = port
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#join(client))
  }

  static async to(url: string): Promise<Gate> {
    const gate = new Gate(Number(new URL(url).port))
    await new Promise<void>((resolve) => gate.#server.listen(0, '127.0.0.1', resolve))
    return gate
  }

  urlOf(url: string): string {
    const through = new URL(url)
    through.port = String((this.#server.address() as { port: number }).port)
    return through.toString()
  }

  /** Connections that somebody at our side still has. */
  get connections(): number {
    return this.#pairs.size
  }

  shut(): void {
    this.#isShut = true
    for (const [client, server] of this.#pairs) {
      client.destroy()
      server.destroy()
    }
  }

  open(): void {
    this.#isShut = false
    this.#isDead = false
  }

  /** The connections that there are go dead; new ones come through, or are swallowed too until it is opened. */
  freeze({ newcomers = false } = {}): void {
    this.#isDead = newcomers
    for (const [client, server] of this.#pairs) {
      client.unpipe(server)
      server.unpipe(client)
      client.resume()
      server.pause()
      this.#dead.add(client)
    }
  }

  /** Finds out which of the dead are still there at our side: only who has cut its connection answers with a reset. */
  probe(): void {
    for (const client of this.#dead) client.write('\0')
  }

  async close(): Promise<void> {
    this.shut()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #join(client: Socket): void {
    client.on('error', () => {})
    if (this.#isShut) return void client.destroy()
    const server = connect({ host: '127.0.0.1', port: this.#port })
    const pair = [client, server] as const
    this.#pairs.add(pair)
    server.on('error', () => {})
    // Nobody answers the goodbye on a dead connection.
    client.on('end', () => {
      if (!this.#dead.has(client)) client.end()
    })
    client.on('close', () => {
      this.#pairs.delete(pair)
      this.#dead.delete(client)
      server.destroy()
    })
    server.on('close', () => client.destroy())
    if (this.#isDead) {
      this.#dead.add(client)
      client.resume()
      return
    }
    client.pipe(server, { end: false })
    server.pipe(client, { end: false })
  }
}
