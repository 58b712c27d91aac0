import { randomUUID } from 'node:crypto'
import type { App, AppRequest, AppResponse } from '../../src/app/app.ts'
import type { Message } from '../../src/session/protocol/json-rpc.ts'

/** Which calls were run how often, over all nodes: it outlives them as a database would. */
export type Runs = Map<string, number>

/** An app as the engine sees one, with two tools: `safe` may be run again, `unsafe` may not. */
export class SimulatedApp implements App {
  readonly #runs: Runs
  readonly #sessions = new Set<string>()
  /** A crashed process answers nobody and runs nothing any more. */
  crashed = false

  constructor(runs: Runs) {
    this.#runs = runs
  }

  async fetch({ method, headers, parsed }: AppRequest): Promise<AppResponse> {
    const id = headers['mcp-session-id']
    const message = parsed as Message
    if (method === 'POST' && message.method === 'initialize') {
      const opened = randomUUID()
      this.#sessions.add(opened)
      const result = {
        protocolVersion: '2025-11-25',
        capabilities: {},
        serverInfo: { name: 'simulated', version: '1' },
      }
      return stream([{ id: message.id, result }], { 'mcp-session-id': opened })
    }
    if (id === undefined || !this.#sessions.has(id)) return status(404)
    if (method === 'GET') return silence()
    if (method === 'DELETE') {
      this.#sessions.delete(id)
      return status(200)
    }
    if (message.id === undefined) return status(202)
    switch (message.method) {
      case 'tools/list': {
        const tools = [{ name: 'safe', annotations: { idempotentHint: true } }, { name: 'unsafe' }]
        return stream([{ id: message.id, result: { tools } }])
      }
      case 'tools/call':
        return this.#call(message)
      default:
        return stream([{ id: message.id, result: {} }])
    }
  }

  async close(): Promise<void> {}

  #call({ id, params }: Message): AppResponse {
    const { call, steps, ms } = params!['arguments'] as { call: string; steps: number; ms: number }
    this.#runs.set(call, (this.#runs.get(call) ?? 0) + 1)
    const self = this
    return {
      ...headersOf(),
      cancel() {},
      body: (async function* () {
        for (let step = 1; step <= steps; step += 1) {
          await new Promise((resolve) => setTimeout(resolve, ms))
          if (self.crashed) await new Promise(() => {})
          yield frame({ method: 'notifications/message', params: { level: 'info', data: `${call}:${step}` } })
        }
        yield frame({ id, result: { content: [{ type: 'text', text: call }] } })
      })(),
    }
  }
}

function frame(message: object): Uint8Array {
  return Buffer.from(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`)
}

function headersOf(more: Record<string, string> = {}) {
  return { status: 200, headers: Object.entries({ 'content-type': 'text/event-stream', ...more }) } as const
}

function stream(messages: readonly object[], more?: Record<string, string>): AppResponse {
  return {
    ...headersOf(more),
    cancel() {},
    body: (async function* () {
      for (const message of messages) yield frame(message)
    })(),
  }
}

function silence(): AppResponse {
  let end: (() => void) | undefined
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  return {
    ...headersOf(),
    cancel: () => end?.(),
    // biome-ignore lint/correctness/useYield: a stream on which nothing is ever said
    body: (async function* (): AsyncGenerator<Uint8Array> {
      await ended
    })(),
  }
}

function status(code: number): AppResponse {
  return { status: code, headers: [], cancel() {}, body: (async function* () {})() }
}
