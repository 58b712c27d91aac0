import type { App, AppRequest, AppResponse } from '../../../src/app/app.ts'
import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Ingredient } from '../ingredients.ts'
import type { Called, Ledger, Run, Step } from '../ledger.ts'
import type { Random } from '../random.ts'
import type { Process, Time } from '../time.ts'
import type { Trace } from '../trace.ts'
import { AppSession, AppStream } from './app-session.ts'
import { jsonOf, whole } from './body.ts'

export interface AppOptions {
  readonly time: Time
  readonly process: Process
  readonly ledger: Ledger
  readonly random: Random
  readonly has: ReadonlySet<Ingredient>
  readonly trace: Trace
  /** A tool ends its process. */
  readonly onKilled: () => void
  /** It forgot a session, and what ran in it. */
  readonly onHarm: () => void
  /** It got what is none of its business. */
  readonly onStray: (what: string) => void
  /** Nothing goes wrong any more. */
  readonly isCalm: () => boolean
}

/** An MCP server as the engine sees one, in the memory of one process; what its tools do stands in the calls' arguments. */
export class SimulatedApp implements App {
  readonly #options: AppOptions
  readonly sessions = new Map<string, AppSession>()
  /** Event streams that nobody has ended or cancelled. */
  openStreams = 0
  /** Requests without an answer, whose caller has not hung up. */
  pending = 0

  constructor(options: AppOptions) {
    this.#options = options
  }

  async fetch(request: AppRequest): Promise<AppResponse> {
    const { time, random, trace, process } = this.#options
    let isOver = false
    const over = () => {
      if (!isOver) this.pending -= 1
      isOver = true
    }
    this.pending += 1
    // Its response closes: whatever the app still does, nobody holds anything for it.
    const forget = request.signal?.onStop(over)
    if (trace.on) trace.say(process.name, `app ${request.method} ${textOf(request).slice(0, 200)}`)
    try {
      if (random.chance(0.3)) await time.sleep(random.next() * 2)
      const response = await this.#answer(request)
      if (trace.on) trace.say(process.name, `app answers ${response.status} to ${request.method}`)
      return response
    } finally {
      forget?.()
      over()
    }
  }

  async close(): Promise<void> {}

  async #answer(request: AppRequest): Promise<AppResponse> {
    const { method, headers, parsed } = request
    const { time, random, trace, process } = this.#options
    if (method === 'POST' && headers['last-event-id'] !== undefined)
      this.#options.onStray('last-event-id of a client')
    const id = headers['mcp-session-id']
    const user = headers['authorization']
    if (user === 'nobody') return whole(401, 'Who are you?')
    if (this.#happens('app-answers-503', 0.05)) return whole(503, 'Busy.')
    const messages = (Array.isArray(parsed) ? parsed : [parsed]) as Message[]
    if (method === 'POST' && messages[0]?.method === 'initialize') return this.#initialize(messages[0], user)
    if (this.#happens('app-hangs', 0.03)) await time.sleep(random.between(100, 4000))
    const session = id === undefined ? undefined : this.sessions.get(id)
    if (session && this.#happens('app-loses-sessions', 0.02)) {
      if (trace.on) trace.say(process.name, `app loses session ${session.id}`)
      this.#options.onHarm()
      session.end()
      this.sessions.delete(session.id)
      return whole(404, 'Session not found')
    }
    if (!session) return whole(404, 'Session not found')
    const { has } = this.#options
    if (has.has('principal') && !has.has('app-serves-everybody') && session.user !== user)
      return whole(403, 'Not yours.')
    if (method === 'DELETE') {
      session.end()
      this.sessions.delete(session.id)
      return whole(200)
    }
    return method === 'GET'
      ? this.#get(session, request)
      : this.#post(session, messages, Array.isArray(parsed))
  }

  async #initialize(message: Message, user: string | undefined): Promise<AppResponse> {
    const { time, random } = this.#options
    if (this.#happens('app-hangs-in-initialize', 0.2)) await time.sleep(random.between(100, 3000))
    const id = `app-${Math.floor(random.next() * 2 ** 48).toString(36)}`
    this.sessions.set(id, new AppSession(id, user, (by) => this.#opened(by)))
    const version = (message.params as { protocolVersion: string }).protocolVersion
    const serverInfo = { name: 'simulated', version: '1' }
    const result = { protocolVersion: version, capabilities: { logging: {} }, serverInfo }
    const named = [['mcp-session-id', id]] as const
    if (random.chance(0.3)) return jsonOf({ jsonrpc: '2.0', id: message.id, result }, named)
    const stream = new AppStream('initialize', (by) => this.#opened(by))
    const response = stream.open()
    stream.send({ id: message.id, result })
    stream.end()
    return { ...response, headers: [...response.headers, ...named] }
  }

  async #get(session: AppSession, { headers, signal }: AppRequest): Promise<AppResponse> {
    const { has, time } = this.#options
    const last = headers['last-event-id']?.split('|')
    if (last && last[0] !== 'standalone') {
      const stream = session.streams.get(last[0]!)
      return stream ? stream.open(Number(last[1])) : whole(404, 'No such stream')
    }
    if (has.has('app-has-no-get')) return whole(405)
    const response = session.standalone.open(last && Number(last[1]))
    // As some proxies do: the head waits for the first byte of the body.
    if (has.has('app-late-head')) {
      while (!session.standalone.spoken && !isOver(response) && !signal?.stopped) await time.sleep(50)
    }
    if (signal?.stopped) response.cancel()
    return response
  }

  #post(
    session: AppSession,
    messages: readonly Message[],
    batch: boolean,
  ): AppResponse | Promise<AppResponse> {
    const requests: Message[] = []
    for (const message of messages) {
      if (message.method === undefined) session.answered(message.id, message.result)
      else if (message.method === 'notifications/initialized') session.initialized = true
      else if (message.method === 'notifications/cancelled') session.cancel(message.params?.['requestId'])
      else if (message.id !== undefined) requests.push(message)
    }
    if (requests.length === 0) return whole(202)
    const json = this.#options.has.has('app-answers-json') && !batch && this.#options.random.chance(0.5)
    if (json) return this.#json(session, requests[0]!)
    const stream = new AppStream(`s${session.streams.size}`, (by) => this.#opened(by))
    session.streams.set(stream.name, stream)
    const response = stream.open()
    let left = requests.length
    for (const request of requests) {
      void this.#serve(session, request, stream, (answer) => {
        left -= 1
        if (answer) stream.send({ id: request.id, ...answer })
        if (left === 0) stream.end()
      })
    }
    return response
  }

  #json(session: AppSession, request: Message): Promise<AppResponse> {
    return new Promise((resolve) => {
      void this.#serve(session, request, undefined, (answer) => {
        resolve(answer ? jsonOf({ jsonrpc: '2.0', id: request.id, ...answer }) : whole(500, 'Broke off.'))
      })
    })
  }

  async #serve(
    session: AppSession,
    { id, method, params }: Message,
    stream: AppStream | undefined,
    answer: (answer?: object) => void,
  ): Promise<void> {
    if (method === 'tools/list') {
      const tools = [{ name: 'safe', annotations: { idempotentHint: true } }, { name: 'unsafe' }]
      return answer({ result: { tools } })
    }
    if (method !== 'tools/call') return answer({ result: {} })
    if (!session.initialized)
      return answer({ error: { code: -32000, message: 'The client is not initialized.' } })
    const { name } = params!['arguments'] as { name: string }
    const { ledger, process } = this.#options
    const call = ledger.calls.get(name)!
    const run = ledger.begin(name, process.name)
    const heard: unknown[] = []
    session.running.add(id!)
    session.cancelled.delete(id!)
    for (const step of call.steps) {
      if (session.cancelled.has(id!)) break
      const isUnheard = stream !== undefined && !stream.listening
      if (!(await this.#step(step, { session, stream, call, run, heard }, answer))) {
        session.running.delete(id!)
        if (!('end' in step) || step.end !== 'never')
          ledger.over(run, isUnheard && 'end' in step && step.end === 'break' ? UNHEARD : 0)
        return
      }
    }
    ledger.over(run)
    session.running.delete(id!)
    // As the SDK: what was cancelled is not answered, and its stream not ended.
    if (session.cancelled.has(id!)) return
    run.answered = true
    const text = JSON.stringify({ name, run: run.number, told: run.told, heard })
    answer({ result: { content: [{ type: 'text', text }] } })
  }

  /** False: nothing comes after it. */
  async #step(step: Step, at: At, answer: (answer?: object) => void): Promise<boolean> {
    const { time, has, onKilled } = this.#options
    const { session, stream, call, run, heard } = at
    if ('wait' in step) await time.sleep(step.wait)
    else if ('notify' in step) {
      for (let i = 0; i < step.notify && stream; i += 1) {
        run.told += 1
        const data = { call: call.name, run: run.number, number: run.told }
        stream.send({ method: 'notifications/message', params: { level: 'info', data } })
      }
    } else if ('announce' in step) {
      const data = { announced: `${run.number}` }
      if (session.standalone.listening) {
        session.standalone.send({ method: 'notifications/message', params: { level: 'info', data } })
      }
    } else if ('ask' in step) {
      const where = step.ask === 'here' && stream ? stream : session.standalone
      const question = session.ask(where, `${step.question}#${run.number}`)
      // As the SDK does. Its client judges whether the question may have been lost: by the store, or with its ttl.
      const patience = time.sleep(has.has('store-loses-moments') ? ASK_PATIENCE : 3 * ASK_PATIENCE)
      const heardOf = await Promise.race([question, patience.then(() => UNANSWERED)])
      if (heardOf === UNANSWERED) {
        run.answered = true
        answer({ error: { code: -32001, message: `nobody answered run ${run.number}` } })
        return false
      }
      heard.push(heardOf)
    } else if ('cut' in step) stream?.cut()
    else if ('cutStandalone' in step) session.standalone.cut()
    else if (step.end === 'throw') {
      run.answered = true
      answer({ error: { code: -32000, message: `the tool failed in run ${run.number}` } })
      return false
    } else if (step.end === 'break') {
      if (stream) stream.breakOff()
      else answer()
      return false
    } else if (step.end === 'kill') {
      onKilled()
      return false
    } else return false
    return true
  }

  #opened(by: number): void {
    this.openStreams += by
  }

  #happens(ingredient: Ingredient, share: number): boolean {
    const { has, random, isCalm } = this.#options
    return has.has(ingredient) && random.chance(share) && !isCalm()
  }
}

/** Milliseconds. */
const ASK_PATIENCE = 10_000
const UNANSWERED = Symbol('unanswered')

/**
 * Milliseconds in which it is noticed that a call broke off while its stream was cut: such a stream ends silently each time
 * that it is resumed, as one may on which nothing has been said yet. Asked for 50 times, with waits of 10, 20, 30 … ms.
 */
const UNHEARD = 13_000

interface At {
  readonly session: AppSession
  readonly stream: AppStream | undefined
  readonly call: Called
  readonly run: Run
  readonly heard: unknown[]
}

function isOver({ body }: AppResponse): boolean {
  return (body as unknown as { over: boolean }).over
}

function textOf({ body, headers }: AppRequest): string {
  const last = headers['last-event-id']
  return `${headers['mcp-session-id'] ?? ''} ${last === undefined ? '' : `after ${last}`} ${body ? Buffer.from(body) : ''}`
}
