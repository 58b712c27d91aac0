import type { AppRequest, AppResponse, HeaderPairs } from '../../../src/app/app.ts'
import type { Answer } from '../../../src/session/protocol/answer.ts'
import { Stop } from '../../../src/stop.ts'
import type { SimulatedNode } from '../node.ts'
import type { Random } from '../random.ts'
import type { Process, Time } from '../time.ts'
import type { Trace } from '../trace.ts'

export interface Head {
  readonly status: number
  readonly headers: HeaderPairs
}

/** What a client sees of one HTTP request. Each callback comes in the client's turn, and none after `onOver`. */
export interface Exchange {
  readonly onHead: (head: Head) => void
  readonly onText: (text: string) => void
  /** `ended`: to its last chunk. `broken`: the connection is gone. `refused`: there was none. */
  readonly onOver: (how: 'ended' | 'broken' | 'refused') => void
}

export interface WireOptions {
  readonly time: Time
  readonly trace: Trace
  readonly random: Random
  /** Makes a client's connection slow: it asks to wait after this share of what is written to it. */
  readonly slow: number
}

/** Connections of clients to nodes. Bytes take their time; a connection can break at any of them. */
export class Wire {
  readonly #options: WireOptions

  constructor(options: WireOptions) {
    this.#options = options
  }

  /** Sends a request; what it returns cuts the connection, in the client's turn. */
  send(client: Process, node: SimulatedNode, request: AppRequest, exchange: Exchange): () => void {
    const { time, trace } = this.#options
    if (trace.on) trace.say(client.name, `-> ${node.name} ${request.method} ${described(request)}`)
    const connection = new Connection(this.#options, client, node, exchange)
    time.after(0.3, () => connection.arrive(request), node.process)
    if (node.closed || !node.process.alive) time.after(0.5, () => connection.over('refused'), client)
    return () => connection.cut()
  }
}

class Connection {
  readonly #options: WireOptions
  readonly #client: Process
  readonly #node: SimulatedNode
  readonly #exchange: Exchange
  /** Seen from the client. */
  #over = false
  /** Seen from the node: the client has gone. */
  readonly #gone = new Stop()
  #stop: (() => void) | undefined
  readonly #killed = () => this.#deliver(() => this.over('broken'))

  constructor(options: WireOptions, client: Process, node: SimulatedNode, exchange: Exchange) {
    this.#options = options
    this.#client = client
    this.#node = node
    this.#exchange = exchange
    node.onKilled.add(this.#killed)
  }

  over(how: 'ended' | 'broken' | 'refused'): void {
    if (this.#over) return
    this.#over = true
    this.#node.onKilled.delete(this.#killed)
    const { trace } = this.#options
    if (trace.on) trace.say(this.#client.name, `<- ${this.#node.name} ${how}`)
    this.#exchange.onOver(how)
  }

  /** In the client's turn: what is on its way is lost. */
  cut(): void {
    if (this.#over) return
    this.#over = true
    this.#node.onKilled.delete(this.#killed)
    const { time, trace } = this.#options
    if (trace.on) trace.say(this.#client.name, `cuts its connection to ${this.#node.name}`)
    time.after(
      0.3,
      () => {
        this.#gone.stop()
        this.#stop?.()
      },
      this.#node.process,
    )
  }

  /** In the node's turn. */
  arrive(request: AppRequest): void {
    const node = this.#node
    if (node.closed) {
      this.#deliver(() => this.over('refused'))
      return
    }
    node.handle({ ...request, signal: this.#gone }).then(
      (answer) => this.#answer(answer),
      (error: unknown) => this.#answer({ status: 599, headers: [], body: `The engine threw: ${error}` }),
    )
  }

  #answer(answer: Answer): void {
    const { status, headers } = answer
    if (this.#gone.stopped) {
      if ('tail' in answer) answer.tail.close()
      if ('response' in answer) answer.response.cancel()
      return
    }
    this.#deliver(() => this.#head({ status, headers }))
    if ('tail' in answer) this.#stream(answer.tail)
    else if ('response' in answer) void this.#relay(answer.response)
    else this.#end(String(answer.body))
  }

  #stream(tail: Extract<Answer, { tail: unknown }>['tail']): void {
    const { random, slow, time } = this.#options
    this.#node.streams.add(this)
    this.#stop = () => {
      this.#node.streams.delete(this)
      tail.close()
    }
    const sink = {
      onDrain: undefined as (() => void) | undefined,
      flush() {},
      write: (text: string) => {
        this.#text(text)
        if (!random.chance(slow)) return true
        // A web stream drains in the same turn, a socket later.
        if (random.chance(0.5)) queueMicrotask(() => sink.onDrain?.())
        else time.after(random.between(1, 50), () => sink.onDrain?.(), this.#node.process)
        return false
      },
      end: (text = '') => {
        this.#node.streams.delete(this)
        this.#end(text)
      },
    }
    tail.start(sink)
  }

  async #relay(response: AppResponse): Promise<void> {
    this.#stop = () => response.cancel()
    try {
      for await (const chunk of response.body) this.#text(Buffer.from(chunk).toString())
      this.#end('')
    } catch {
      this.#deliver(() => this.over('broken'))
    }
  }

  #head(head: Head): void {
    if (this.#over) return
    const { trace } = this.#options
    if (trace.on) trace.say(this.#client.name, `<- ${this.#node.name} ${head.status}`)
    this.#exchange.onHead(head)
  }

  #text(text: string): void {
    this.#deliver(() => {
      if (this.#over) return
      const { trace } = this.#options
      if (trace.on) trace.say(this.#client.name, `<- ${this.#node.name} ${JSON.stringify(text)}`)
      this.#exchange.onText(text)
    })
  }

  #end(text: string): void {
    if (text !== '') this.#text(text)
    this.#deliver(() => this.over('ended'))
  }

  #deliver(work: () => void): void {
    this.#options.time.after(0.3, work, this.#client)
  }
}

function described({ headers, body }: AppRequest): string {
  const last = headers['last-event-id']
  return `${headers['mcp-session-id'] ?? ''}${last === undefined ? '' : ` after ${last}`} ${body ? Buffer.from(body) : ''}`
}
