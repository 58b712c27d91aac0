import type { IncomingMessage, ServerResponse } from 'node:http'
import { forward } from './forward.ts'
import { type Listening, listen } from './listen.ts'

export interface CutRule {
  /** Cut each event stream this long after its headers. */
  readonly afterMs?: number
  /** Cut each event stream right after this many events; comments do not count. */
  readonly afterEvents?: number
  /** Only answers to this method. Default both. */
  readonly method?: 'GET' | 'POST'
  /** Cut at most so many streams. Default no limit. */
  readonly times?: number
}

export interface Seen {
  readonly method: string
  readonly session: string | undefined
  readonly lastEventId: string | undefined
  /** Undefined until the answer began. */
  status?: number | undefined
}

/** A network that breaks: it destroys the client's connection in the middle of an event stream. */
export class CuttingProxy {
  backend: string
  rule: CutRule = {}
  cuts = 0
  readonly seen: Seen[] = []
  readonly #streaming = new Set<ServerResponse>()
  #listening: Listening | undefined

  constructor(backend: string) {
    this.backend = backend
  }

  static async to(backend: string, rule: CutRule = {}): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(backend)
    proxy.rule = rule
    proxy.#listening = await listen((req, res) => proxy.#handle(req, res))
    return proxy
  }

  get origin(): string {
    return this.#listening!.origin
  }

  /** Cuts whatever is streaming now; returns how many streams that were. */
  cutNow(): number {
    const streams = [...this.#streaming]
    for (const res of streams) this.#cut(res)
    return streams.length
  }

  async close(): Promise<void> {
    await this.#listening!.close()
  }

  #handle(req: IncomingMessage, res: ServerResponse): void {
    const header = (name: string) => req.headers[name] as string | undefined
    const seen: Seen = {
      method: req.method ?? '',
      session: header('mcp-session-id'),
      lastEventId: header('last-event-id'),
    }
    this.seen.push(seen)
    forward(this.backend, req, res, (answer) => {
      seen.status = answer.statusCode
      if (!answer.headers['content-type']?.includes('text/event-stream')) return void answer.pipe(res)
      this.#streaming.add(res)
      res.on('close', () => this.#streaming.delete(res))
      const { afterMs, afterEvents, method, times = Number.POSITIVE_INFINITY } = this.rule
      const applies = this.cuts < times && (method === undefined || method === req.method)
      if (applies && afterMs !== undefined) setTimeout(() => this.#cut(res), afterMs).unref()
      if (applies && afterEvents !== undefined) this.#passEvents(answer, res, afterEvents)
      else answer.pipe(res)
    })
  }

  /** Passes exactly so many events, each to its blank line, then cuts once they have left this process. */
  #passEvents(answer: IncomingMessage, res: ServerResponse, count: number): void {
    let held = ''
    let left = count
    answer.setEncoding('utf8')
    answer.on('end', () => res.end(held))
    answer.on('data', (text: string) => {
      held += text
      for (let end = held.indexOf('\n\n'); end !== -1 && left > 0; end = held.indexOf('\n\n')) {
        const block = held.slice(0, end + 2)
        held = held.slice(end + 2)
        if (!block.startsWith(':')) left -= 1
        res.write(block, () => {
          if (left === 0) this.#cut(res)
        })
      }
    })
  }

  #cut(res: ServerResponse): void {
    if (!this.#streaming.delete(res)) return
    this.cuts += 1
    res.destroy()
  }
}
