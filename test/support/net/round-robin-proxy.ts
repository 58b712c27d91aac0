import type { IncomingMessage, ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { forward } from './forward.ts'
import { type Listening, listen } from './listen.ts'

/**
 * A load balancer without any stickiness: each request goes to the next backend, whoever sent it. One that
 * cannot be connected to is passed over, as every load balancer does; what was sent to one is never tried elsewhere.
 */
export class RoundRobinProxy {
  /** May be changed while it runs. */
  backends: string[]
  /** How many requests each backend got. */
  readonly counts = new Map<string, number>()
  #next = 0
  #listening: Listening | undefined

  constructor(backends: readonly string[]) {
    this.backends = [...backends]
  }

  static async over(backends: readonly string[]): Promise<RoundRobinProxy> {
    const proxy = new RoundRobinProxy(backends)
    proxy.#listening = await listen((req, res) => void proxy.#handle(req, res))
    return proxy
  }

  get origin(): string {
    return this.#listening!.origin
  }

  async close(): Promise<void> {
    await this.#listening!.close()
  }

  async #handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await buffer(req).catch(() => undefined)
    if (body) this.#send(req, res, body, this.#next++, this.backends.length)
  }

  #send(req: IncomingMessage, res: ServerResponse, body: Buffer, turn: number, left: number): void {
    const backend = this.backends[turn % this.backends.length]
    if (backend === undefined || left === 0) return void res.writeHead(503).end()
    this.counts.set(backend, (this.counts.get(backend) ?? 0) + 1)
    // Its own turns, whoever else comes meanwhile: each backend is tried once.
    const onUnreachable = () => this.#send(req, res, body, turn + 1, left - 1)
    forward(backend, req, res, undefined, { body, onUnreachable })
  }
}
