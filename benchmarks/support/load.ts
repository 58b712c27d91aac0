import { type ChildProcess, fork } from 'node:child_process'
import { Agent, request } from 'node:http'
import { fileURLToPath } from 'node:url'
import { now } from './spans.ts'

export interface Server {
  readonly port: number
  readonly process: ChildProcess
}

export function startServer(...args: string[]): Promise<Server> {
  const file = fileURLToPath(new URL('./server.ts', import.meta.url))
  const child = fork(file, args, {
    execArgv: ['--import', 'tsx', '--expose-gc'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  return new Promise((resolve, reject) => {
    child.once('message', ({ port }: { port: number }) => resolve({ port, process: child }))
    child.once('exit', (code) => reject(new Error(`the server ended with exit code ${code}`)))
  })
}

/** Asks a server one of the questions that `server.ts` answers; one at a time. */
export function ask<T>({ process: child }: Server, question: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = () => reject(new Error(`the server ended before it told its ${question}`))
    child.once('exit', onExit)
    child.once('message', (answer: Record<string, T>) => {
      child.off('exit', onExit)
      resolve(answer[question]!)
    })
    child.send(question)
  })
}

/** Processor time that the server has used so far, in ms. */
export async function cpuOf(server: Server): Promise<number> {
  const { user, system } = await ask<NodeJS.CpuUsage>(server, 'cpu')
  return (user + system) / 1000
}

export function stopServer({ process: child }: Server): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}

/** One tool call, in ms on the system's clock. */
export interface Call {
  readonly from: number
  readonly to: number
  /** It went to another port than the session was opened at. */
  readonly forwarded: boolean
}

const initialize = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'bench', version: '1.0.0' },
  },
}
const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }

/** The requests of a session's life. */
export const STEPS = ['initialize', 'initialized', 'call', 'DELETE'] as const
export type Step = (typeof STEPS)[number]

/** One MCP session over one kept-alive connection to each port, with no more than HTTP in between. */
export class LoadClient {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  readonly #ports: readonly number[]
  #next = 0
  #sessionId: string | undefined
  #id = 0

  /** With several ports each request goes to the next one. */
  constructor(...ports: number[]) {
    this.#ports = ports
  }

  async open(): Promise<void> {
    await this.#post(initialize)
    await this.#post(initialized)
  }

  /** One tool call; rejects unless exactly its own answer came back, once. */
  async call(): Promise<Call> {
    this.#id += 1
    const text = `call ${this.#id}`
    const params = { name: 'echo', arguments: { text } }
    const forwarded = this.#next % this.#ports.length !== 0
    const from = now()
    const body = await this.#post({ jsonrpc: '2.0', id: this.#id, method: 'tools/call', params })
    const to = now()
    const answers = body.split('\n').filter((line) => line.startsWith('data: {'))
    const answer = answers.length === 1 ? JSON.parse(answers[0]!.slice(6)) : undefined
    if (answer?.id !== this.#id || answer.result?.content?.[0]?.text !== text) {
      throw new Error(`lost or doubled: asked for "${text}", got ${body}`)
    }
    return { from, to, forwarded }
  }

  /**
   * A session's whole life: opened, used for one call, ended; rejects as `call` does. The milliseconds that its steps took.
   */
  async live(): Promise<Readonly<Record<Step, number>>> {
    const times: number[] = [now()]
    const step = async (work: Promise<unknown>) => {
      await work
      times.push(now())
    }
    this.#sessionId = undefined
    await step(this.#post(initialize))
    await step(this.#post(initialized))
    await step(this.call())
    await step(this.#send('DELETE'))
    const took = STEPS.map((name, i) => [name, times[i + 1]! - times[i]!])
    return Object.fromEntries(took) as Record<Step, number>
  }

  close(): void {
    this.#agent.destroy()
  }

  #post(message: object): Promise<string> {
    return this.#send('POST', message)
  }

  #send(method: 'POST' | 'DELETE', message?: object): Promise<string> {
    const port = this.#ports[this.#next++ % this.#ports.length]!
    const headers: Record<string, string> = {
      ...(message && { 'content-type': 'application/json' }),
      accept: 'application/json, text/event-stream',
      ...(this.#sessionId && { 'mcp-session-id': this.#sessionId, 'mcp-protocol-version': '2025-11-25' }),
    }
    return new Promise((resolve, reject) => {
      const outgoing = request(
        { host: '127.0.0.1', port, path: '/mcp', method, headers, agent: this.#agent },
        (response) => {
          this.#sessionId ??= response.headers['mcp-session-id'] as string | undefined
          let body = ''
          response.setEncoding('utf8')
          response.on('data', (chunk: string) => {
            body += chunk
          })
          response.on('end', () => {
            if (response.statusCode! < 300) resolve(body)
            else reject(new Error(`status ${response.statusCode}: ${body}`))
          })
          response.on('error', reject)
        },
      )
      outgoing.on('error', reject)
      outgoing.end(message && JSON.stringify(message))
    })
  }
}

export interface Figures {
  /** Calls per second. */
  readonly throughput: number
  readonly p50: number
  readonly p99: number
  /** Processor time of the servers for one call, in ms. */
  readonly cpu: number
  readonly calls: readonly Call[]
}

/** All clients call as fast as they are answered, `count` times in all. */
export async function load(
  servers: readonly Server[],
  clients: readonly LoadClient[],
  count: number,
): Promise<Figures> {
  const cpuBefore = await cpuOfAll(servers)
  const { done: calls, seconds } = await byAll(clients, count, (client) => client.call())
  const cpu = ((await cpuOfAll(servers)) - cpuBefore) / calls.length
  return { throughput: calls.length / seconds, p50: took(calls, 0.5), p99: took(calls, 0.99), cpu, calls }
}

/** `work` so many times, by whoever of them is free; and the seconds that all of it took. */
export async function byAll<T>(
  clients: readonly LoadClient[],
  count: number,
  work: (client: LoadClient) => Promise<T>,
): Promise<{ readonly done: readonly T[]; readonly seconds: number }> {
  let left = count
  const done: T[] = []
  const started = performance.now()
  await Promise.all(
    clients.map(async (client) => {
      while (left > 0) {
        left -= 1
        done.push(await work(client))
      }
    }),
  )
  return { done, seconds: (performance.now() - started) / 1000 }
}

/** The milliseconds within which that share of the calls was answered. */
export function took(calls: readonly Call[], share: number): number {
  const times = calls.map(({ from, to }) => to - from).sort((a, b) => a - b)
  return times[Math.min(times.length - 1, Math.floor(times.length * share))]!
}

async function cpuOfAll(servers: readonly Server[]): Promise<number> {
  const each = await Promise.all(servers.map(cpuOf))
  return each.reduce((sum, cpu) => sum + cpu, 0)
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}
