import { parseJson } from '../../json.ts'
import type { StopSignal } from '../../stop.ts'
import type { EventLog, OpenStream } from '../../store/port.ts'
import type { LocalApp } from '../live/local-app.ts'
import {
  idKey,
  isRequest,
  isResponse,
  parseMessages,
  type Request,
  toMessages,
} from '../protocol/json-rpc.ts'

/** A stream that was opened and never ended: its owner is gone. */
export interface LostCall {
  readonly streamId: string
  /** The requests without an answer. */
  readonly requests: readonly Request[]
  /** The body that it was opened with, as JSON. */
  readonly parsed: unknown
  /** How often it was begun. */
  readonly runs: number
}

const PAGE = 500

/** What is left of the streams that the last owner has left open. */
export async function findLostCalls(
  log: EventLog,
  sessionId: string,
  open: readonly OpenStream[],
): Promise<readonly LostCall[]> {
  return Promise.all(
    open.map(async ({ streamId, payload, runs }) => {
      const parsed = parseJson(payload)
      const requests = (toMessages(parsed) ?? []).filter(isRequest)
      // The answer of a single request ends its stream; of a batch some may be there already.
      const answered = requests.length > 1 ? await answersIn(log, sessionId, streamId) : new Set<string>()
      return { streamId, parsed, runs, requests: requests.filter(({ id }) => !answered.has(idKey(id))) }
    }),
  )
}

async function answersIn(log: EventLog, sessionId: string, streamId: string): Promise<ReadonlySet<string>> {
  const answered = new Set<string>()
  for (let after = 0; ; ) {
    const page = await log.read({ sessionId, streamId, after, limit: PAGE })
    for (const { payload } of page.events.filter(({ kind }) => kind === 'message'))
      for (const { id } of parseMessages(payload).filter(isResponse)) answered.add(idKey(id))
    if (!page.more || page.scanned <= after) return answered
    after = page.scanned
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
export async function repeatableTools(local: LocalApp, signal?: StopSignal): Promise<ReadonlySet<string>> {
  const names = new Set<string>()
  let cursor: unknown
  for (let page = 0; page < 100; page += 1) {
    const answer = await local.ask('tools/list', cursor === undefined ? {} : { cursor }, signal)
    const tools = (answer.result?.['tools'] ?? []) as {
      name: string
      annotations?: Record<string, unknown>
    }[]
    for (const { name, annotations } of tools) {
      if (annotations?.['readOnlyHint'] === true || annotations?.['idempotentHint'] === true) names.add(name)
    }
    cursor = answer.result?.['nextCursor']
    if (cursor === undefined) break
  }
  return names
}

/** The same for requests that somebody asks about. */
export async function mayRepeat(local: LocalApp, requests: readonly Request[]): Promise<boolean> {
  const callsTools = requests.some(({ method }) => method === 'tools/call')
  const tools = callsTools ? await repeatableTools(local) : new Set<string>()
  return requests.every((request) => isRepeatable(request, tools))
}

export function isRepeatable(request: Request, tools: ReadonlySet<string>): boolean {
  if (request.method === 'tools/call') return tools.has(String(request.params?.['name']))
  return SAFE_METHODS.has(request.method)
}
