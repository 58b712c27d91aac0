import type { AppRequest } from '../../src/app/app.ts'
import type { SimulatedNode } from './simulated-node.ts'

interface Answer {
  readonly id: number
  readonly result?: { readonly content: { readonly text: string }[] }
  readonly error?: { readonly message: string; readonly data?: { readonly reason: string } }
}

export interface Heard {
  /** As it was called at last. */
  name: string
  last?: string
  readonly ids: string[]
  readonly positions: number[]
  readonly answers: Answer[]
}

const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2025-11-25',
}

function post(message: object, session?: string): AppRequest {
  const parsed = { jsonrpc: '2.0', ...message }
  const headers = session === undefined ? HEADERS : { ...HEADERS, 'mcp-session-id': session }
  return { method: 'POST', url: '/mcp', headers, body: Buffer.from(JSON.stringify(parsed)), parsed }
}

export async function open(node: SimulatedNode): Promise<string> {
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'p', version: '1' } }
  const answer = await node.handle(post({ id: 0, method: 'initialize', params }))
  const session = answer.headers.find(([name]) => name === 'mcp-session-id')![1]
  await node.handle(post({ method: 'notifications/initialized' }, session))
  return session
}

/** A careful client: makes the call at one node, and resumes at any other until it has the answer. */
export async function call(
  session: string,
  id: number,
  tool: string,
  args: { call: string; steps: number; ms: number },
  anyNode: () => SimulatedNode,
): Promise<Heard> {
  const heard: Heard = { name: args.call, ids: [], positions: [], answers: [] }
  for (let attempt = 0; attempt < 200 && heard.answers.length === 0; attempt += 1) {
    const node = anyNode()
    const headers = { ...HEADERS, 'mcp-session-id': session }
    if (heard.last !== undefined) {
      await listen(
        node,
        { method: 'GET', url: '/mcp', headers: { ...headers, 'last-event-id': heard.last } },
        heard,
      )
    } else {
      // Without an id nothing is known of the call: it was lost with its connection, and the user makes another.
      if (attempt > 0) heard.name += '+'
      const params = { name: tool, arguments: { ...args, call: heard.name } }
      await listen(node, post({ id, method: 'tools/call', params }, session), heard)
    }
    await sleep(10)
  }
  return heard
}

/** Resolves when the response has ended, when its node has died, or after a while without a word. */
async function listen(node: SimulatedNode, request: AppRequest, heard: Heard): Promise<void> {
  const answer = await Promise.race([node.handle(request), died(node)])
  if (!answer || !('tail' in answer)) return
  let ended: (() => void) | undefined
  const end = new Promise<void>((resolve) => {
    ended = resolve
  })
  answer.tail.start({
    onDrain: undefined,
    flush() {},
    write: (text) => {
      if (!node.dead) read(text, heard)
      return true
    },
    end: (text = '') => {
      if (!node.dead) read(text, heard)
      ended!()
    },
  })
  const silent = sleep(8000).then(() => 'silent')
  if ((await Promise.race([end, died(node), silent])) === 'silent') {
    throw new Error(`${heard.name}: silence for 8 s, after ${heard.ids.length} events`)
  }
  answer.tail.close()
}

function read(text: string, heard: Heard): void {
  for (const frame of text.split('\n\n')) {
    const id = /^id: (.+)$/m.exec(frame)?.[1]
    const data = /^data: (.+)$/m.exec(frame)?.[1]
    if (id !== undefined) heard.last = id
    // A priming event, with empty data, may name again where the client stands.
    if (id !== undefined && data !== undefined) {
      heard.ids.push(id)
      heard.positions.push(Number.parseInt(id, 36))
    }
    const message = data ? (JSON.parse(data) as Answer & { method?: string }) : undefined
    if (message && message.method === undefined) heard.answers.push(message)
  }
}

async function died(node: SimulatedNode): Promise<undefined> {
  while (!node.dead) await sleep(5)
  return undefined
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
