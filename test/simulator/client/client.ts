import type { AppRequest } from '../../../src/app/app.ts'
import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Violations } from '../invariants/violations.ts'
import type { SimulatedNode } from '../node.ts'
import type { Random } from '../random.ts'
import type { Process, Time } from '../time.ts'
import type { Heard } from './heard.ts'
import type { Head, Wire } from './http.ts'
import { type Frame, SseReader } from './sse.ts'

export interface ClientOptions {
  readonly time: Time
  readonly process: Process
  readonly random: Random
  readonly wire: Wire
  readonly violations: Violations
  /** Where the load balancer sends it. */
  readonly anyNode: () => SimulatedNode
  readonly user: string
  /** Has it a reason to cut a connection now? */
  readonly cuts: () => boolean
  /** It has no right to what it asks for. */
  readonly stranger: boolean
  /** Has the store refused anything of that session? */
  readonly isUnstored: (session: string) => boolean
  /** The session may have ended, and 404 is the truth. */
  readonly mayBeGone: (session: string) => boolean
}

/** What became of one HTTP request. */
export interface Outcome {
  readonly status: number | undefined
  readonly how: 'ended' | 'broken' | 'refused' | 'cut'
  /** The body, where it was no event stream. */
  readonly text: string
  readonly streamed: boolean
}

interface Handlers {
  readonly onHead?: (head: Head) => void
  readonly onFrame?: (frame: Frame) => void
  /** Hands out how the client hangs up. */
  readonly onOpen?: (hangUp: () => void) => void
}

const VERSION = '2025-11-25'

/**
 * A client that follows the protocol to the letter, and never gives a stream up because it is silent: it waits until the
 * stream has ended or its connection is gone, then resumes.
 */
export class SimulatedClient {
  readonly #options: ClientOptions
  readonly process: Process
  session: string | undefined
  gone = false
  #ids = 0
  /** Ids that it uses twice at a time: one of the two may be refused. */
  readonly repeated = new Set<unknown>()
  /** What it waits for at the moment: what hangs, when all is calm, hangs here. */
  readonly waiting = new Set<string>()
  /**
   * A standalone stream broke before it had an id, or any stream on which something came without one: nobody can tell what it
   * did not hear, a question of a tool perhaps.
   */
  cannotResume = false
  /** On one of its streams it was told that something has expired before it could be shown. */
  missed = false
  readonly #answering: Promise<void>[] = []
  #left = false

  constructor(options: ClientOptions) {
    this.#options = options
    this.process = options.process
  }

  get user(): string {
    return this.#options.user
  }

  nextId(): number {
    this.#ids += 1
    return this.#ids
  }

  async open(): Promise<void> {
    const clientInfo = { name: this.process.name, version: '1' }
    const params = { protocolVersion: VERSION, capabilities: { sampling: {} }, clientInfo }
    await this.insist('initialize', async () => {
      const body = { jsonrpc: '2.0', id: this.nextId(), method: 'initialize', params }
      let session: string | undefined
      const outcome = await this.send(this.#post(body), {
        onHead: ({ headers }) => {
          session = headers.find(([name]) => name === 'mcp-session-id')?.[1]
        },
      })
      if (outcome.status !== 200 || outcome.how !== 'ended') return false
      this.session = session
      return true
    })
    await this.notify('notifications/initialized')
  }

  /** Says something that is not answered, until it is accepted. */
  async notify(method: string, params?: object): Promise<void> {
    await this.insist(method, async () => {
      const { status } = await this.send(this.#post({ jsonrpc: '2.0', method, ...(params && { params }) }))
      return status === 202 || status === 404
    })
  }

  post(body: object): Promise<Outcome> {
    return this.send(this.#post(body))
  }

  /** Asks one node whether it knows the session. */
  ping(node: SimulatedNode): Promise<Outcome> {
    return this.send(this.#post({ jsonrpc: '2.0', id: this.nextId(), method: 'ping' }), {}, node)
  }

  /** As somebody whom the app would not let in at all, in a session that never was. */
  pryAs(authorization: string): Promise<Outcome> {
    const ping = this.#post({ jsonrpc: '2.0', id: this.nextId(), method: 'ping' })
    const headers = { ...ping.headers, authorization, 'mcp-session-id': 'unknown' }
    return this.send({ ...ping, headers })
  }

  /** As somebody who has no right to the session. */
  pry(method: string, name: string): Promise<Outcome> {
    const params = { name: 'unsafe', arguments: { name } }
    const call = this.#post({ jsonrpc: '2.0', id: this.nextId(), method: 'tools/call', params })
    return this.send(method === 'POST' ? call : { ...this.#get(undefined), method })
  }

  /** One POST with requests, or one GET that resumes: everything that comes of it is heard. */
  async listen(
    heard: Heard,
    body?: object | readonly object[],
    onMessage?: (message: Message) => void,
    onOpen?: (hangUp: () => void) => void,
  ): Promise<Outcome> {
    const { isUnstored } = this.#options
    const request = body ? this.#post(body) : this.#get(heard.last)
    const outcome = await this.send(request, {
      ...(onOpen && { onOpen }),
      onFrame: (frame) => {
        if (frame.gap === 'expired-or-trimmed') {
          heard.missed = true
          this.missed = true
        }
        const message = heard.take(frame)
        if (!message) return
        if (message.method === 'sampling/createMessage') this.#answer(message)
        onMessage?.(message)
      },
    })
    const isLost = isUnstored(this.session!) || (!body && heard.last === undefined)
    if (outcome.how !== 'ended' && isLost) this.cannotResume = true
    return outcome
  }

  /** Ends the session; true: the server said so. */
  async delete(): Promise<boolean> {
    let deleted = false
    await this.insist('DELETE', async () => {
      this.gone = true
      const { status } = await this.send({ ...this.#get(undefined), method: 'DELETE' })
      deleted = status === 200
      return deleted || status === 404
    })
    return deleted
  }

  /** Goes without a word. */
  leave(): void {
    this.#left = true
  }

  get left(): boolean {
    return this.#left
  }

  /** Tries again until `attempt` says that it is done; a bounded number of times, far beyond any fault. */
  async insist(what: string, attempt: () => Promise<boolean>): Promise<void> {
    const { time, random, violations } = this.#options
    const waiting = `${this.process.name} ${what} of session ${this.session}`
    this.waiting.add(waiting)
    try {
      for (let tries = 0; tries < MAX_TRIES; tries += 1) {
        if (await attempt()) return
        await time.sleep(random.between(5, 100) * Math.min(1 + tries, 10))
      }
      violations.add('ends', `${waiting}: ${MAX_TRIES} tries, and no answer`)
    } finally {
      this.waiting.delete(waiting)
    }
  }

  /** Answers that it still gives. */
  async settled(): Promise<void> {
    while (this.#answering.length > 0) await this.#answering.shift()
  }

  send(
    request: AppRequest,
    { onHead, onFrame, onOpen }: Handlers = {},
    node = this.#options.anyNode(),
  ): Promise<Outcome> {
    const { wire, time, random, cuts } = this.#options
    return new Promise((resolve) => {
      const reader = new SseReader()
      let head: Head | undefined
      let text = ''
      let streamed = false
      let bytes = cuts() ? random.between(0, 600) : Number.POSITIVE_INFINITY
      const late = cuts() ? random.between(0, 400) : undefined
      const settle = (how: Outcome['how']) => {
        timer?.cancel()
        resolve({ status: head?.status, how, text, streamed })
      }
      const cut = () => {
        hangUp()
        settle('cut')
      }
      const timer = late === undefined ? undefined : time.after(late, cut)
      const hangUp = wire.send(this.process, node, request, {
        onHead: (arrived) => {
          head = arrived
          streamed = arrived.headers.some(
            (pair) => pair[0] === 'content-type' && pair[1].startsWith('text/event-stream'),
          )
          this.#judge(request, arrived)
          onHead?.(arrived)
        },
        onText: (all) => {
          const piece = all.slice(0, bytes)
          bytes -= all.length
          if (!streamed) text += piece
          else for (const frame of reader.read(piece)) onFrame?.(frame)
          if (bytes <= 0) cut()
        },
        onOver: settle,
      })
      onOpen?.(cut)
    })
  }

  /** A status that no client of a single process that never dies would see, whatever happens behind it. */
  #judge({ method, headers, parsed }: AppRequest, { status }: Head): void {
    const { violations, mayBeGone } = this.#options
    const what = `${this.process.name} ${method} ${headers['last-event-id'] ?? ''}`
    if (status === 404 && !this.gone && !mayBeGone(this.session!)) {
      violations.add('truth', `${what}: 404, and session ${this.session} is alive`)
    }
    if (status === 404) this.gone = true
    if (status === 400 && this.repeated.has((parsed as Message | undefined)?.id)) return
    if (![200, 202, 204, 404, 503, 500].includes(status) && !this.#options.stranger)
      violations.add('truth', `${what}: status ${status}`)
  }

  #answer({ id, params }: Message): void {
    const { messages } = params as { messages: { content: { text: string } }[] }
    const result = {
      model: 'none',
      role: 'assistant',
      content: { type: 'text', text: reply(messages[0]!.content.text) },
    }
    const { time, random } = this.#options
    const thinking = time.sleep(random.between(0, 100))
    const answering = this.insist(`answer to ${id}`, async () => {
      await thinking
      const { status } = await this.post({ jsonrpc: '2.0', id, result })
      return status === 202 || status === 404 || this.#left
    })
    this.#answering.push(answering)
  }

  #post(body: object): AppRequest {
    const headers = { ...this.#headers(), 'content-type': 'application/json' }
    return { method: 'POST', url: '/mcp', headers, body: Buffer.from(JSON.stringify(body)), parsed: body }
  }

  #get(last: string | undefined): AppRequest {
    const headers = this.#headers()
    return {
      method: 'GET',
      url: '/mcp',
      headers: last === undefined ? headers : { ...headers, 'last-event-id': last },
    }
  }

  #headers(): Record<string, string> {
    return {
      accept: 'application/json, text/event-stream',
      authorization: this.#options.user,
      ...(this.session !== undefined && { 'mcp-session-id': this.session, 'mcp-protocol-version': VERSION }),
    }
  }
}

const MAX_TRIES = 300

/** What a client answers to a question, so that a tool that got another's answer is found out. */
export function reply(question: string): string {
  return `answer to ${question}`
}
