import type { EventLog } from '../../store/store.ts'
import { type LocalApp, readMessages } from '../live/local-app.ts'
import { idKey, isRequest, isResponse, parseMessage, type Request, toMessages } from '../protocol/json-rpc.ts'

/** A stream that was opened and never ended: its owner is gone. */
export interface LostCall {
  readonly streamId: string
  /** The requests without an answer. */
  readonly requests: readonly Request[]
  /** The body as the client sent it. */
  readonly parsed: unknown
  /** How often the app was lost under it: each time its record was repeated. */
  readonly losses: number
}

const PAGE = 500

/** The calls that nobody will answer any more, found by reading the session's log once. */
export async function findLostCalls(log: EventLog, sessionId: string): Promise<readonly LostCall[]> {
  const open = new Map<string, { parsed: unknown; requests: Map<string, Request>; losses: number }>()
  let after = 0
  for (;;) {
    const page = await log.read({ sessionId, after, limit: PAGE })
    for (const { streamId, kind, payload, position } of page.events) {
      after = position
      if (kind === 'open') {
        const former = open.get(streamId)
        if (former) {
          former.losses += 1
          continue
        }
        const parsed = parseJson(payload)
        const requests = (toMessages(parsed) ?? []).filter(isRequest)
        const unanswered = new Map(requests.map((each) => [idKey(each.id), each]))
        open.set(streamId, { parsed, requests: unanswered, losses: 0 })
      } else if (kind === 'message') {
        const lost = open.get(streamId)
        const message = lost && parseMessage(payload)
        if (message && isResponse(message)) lost.requests.delete(idKey(message.id))
      } else {
        open.delete(streamId)
      }
    }
    if (!page.more) break
  }
  return [...open].map(([streamId, { parsed, requests, losses }]) => ({
    streamId,
    parsed,
    requests: [...requests.values()],
    losses,
  }))
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Requests that only read, or that leave the same state however often they are made (MCP 2025-11-25, "Server Features"). */
const SAFE_METHODS = new Set([
  'ping',
  'tools/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'prompts/list',
  'prompts/get',
  'completion/complete',
  'logging/setLevel',
  'tasks/get',
  'tasks/list',
  'tasks/result',
])

/** Which of the tools say of themselves that a second run does no harm (`readOnlyHint` or `idempotentHint`). */
export async function repeatableTools(local: LocalApp): Promise<ReadonlySet<string>> {
  const names = new Set<string>()
  let cursor: unknown
  for (let page = 0; page < 100; page += 1) {
    const params = cursor === undefined ? {} : { cursor }
    const request = { jsonrpc: '2.0', id: `tools-${page}`, method: 'tools/list', params }
    const answer = (await readMessages(await local.post(request))).find(isResponse)
    const tools = (answer?.result?.['tools'] ?? []) as {
      name: string
      annotations?: Record<string, unknown>
    }[]
    for (const { name, annotations } of tools) {
      if (annotations?.['readOnlyHint'] === true || annotations?.['idempotentHint'] === true) names.add(name)
    }
    cursor = answer?.result?.['nextCursor']
    if (cursor === undefined) break
  }
  return names
}

export function isRepeatable(request: Request, tools: ReadonlySet<string>): boolean {
  if (request.method === 'tools/call') return tools.has(String(request.params?.['name']))
  return SAFE_METHODS.has(request.method)
}
