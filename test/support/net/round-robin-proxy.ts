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
  /** POSTs that have no whole answer yet, by their backends. */
  readonly #calls = new Map<string, Set<{ ended?: number }>>()
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

  /**
   * The calls that are at that backend now. What it returns says how long it took until the last of them was answered, in ms;
   * as far as that has happened.
   */
  callsAt(backend: string): () => number {
    const from = performance.now()
    const calls = [...(this.#calls.get(backend) ?? [])]
    return () => Math.max(0, ...calls.map(({ ended = performance.now() }) => ended - from))
  }

  async #handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await buffer(req).catch(() => undefined)
    if (body) this.#send(req, res, body, this.#next++, this.backends.length)
  }

  #send(req: IncomingMessage, res: ServerResponse, body: Buffer, turn: number, left: number): void {
    const backend = this.backends[turn % this.backends.length]
    if (backend === undefined || left === 0) return void res.writeHead(503).end()
    this.counts.set(backend, (this.counts.get(backend) ?? 0) + 1)
    const over = req.method === 'POST' ? this.#called(backend) : () => {}
    res.on('close', over)
    // Its own turns, whoever else comes meanwhile: each backend is tried once.
    const onUnreachable = () => {
      over()
      this.#send(req, res, body, turn + 1, left - 1)
    }
    forward(backend, req, res, undefined, { body, onUnreachable })
  }
  #called(backend: string): () => void {
    const call: { ended?: number } = {}
    const calls = this.#calls.get(backend) ?? new Set()
    this.#calls.set(backend, calls.add(call))
    return () => {
      call.ended ??= performance.now()
      calls.delete(call)
    }
  }
}
