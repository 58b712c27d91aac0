import type { WholeAnswer } from './answer.ts'
import { batchOf, errorResponse, type Request } from './json-rpc.ts'

/** What the client is told of a call that must not be run again. */
export function interrupted(request: Request): string {
  const tool = request.method === 'tools/call' ? { tool: request.params?.['name'] } : {}
  return errorResponse(
    request.id,
    -32603,
    'The call was interrupted: the process that ran it ended before its answer was stored. It may or may not have taken effect.',
    { reason: 'interrupted', method: request.method, ...tool },
  )
}

/** The same where there is no stream to say it on. */
export function interruptedAnswer(requests: readonly Request[]): WholeAnswer {
  const answers = requests.map(interrupted)
  const body = batchOf(answers)
  return { status: 200, headers: [['content-type', 'application/json']], body }
}
