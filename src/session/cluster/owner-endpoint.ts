import { readBody } from '../../app/app.ts'
import { errorText } from '../../errors.ts'
import type { Settings } from '../../options.ts'
import type { StopSignal } from '../../stop.ts'
import { MESSAGE_LIMIT } from '../../store/port.ts'
import type { Elsewhere, OwnerAnswer, SessionRequest } from '../live/handling.ts'
import type { OwnedSessions } from '../ownership/owned-sessions.ts'
import type { WholeAnswer } from '../protocol/answer.ts'
import type { Said } from './exchange.ts'
import type { Followers } from './followers.ts'
import { type FollowQuestion, fromWire, type Question, type RequestQuestion, say } from './questions.ts'

export interface OwnerEndpointOptions {
  readonly owned: OwnedSessions
  readonly followers: Followers
  readonly settings: Settings
  /** Answers a request for a session that this node owns, or may take. */
  readonly serve: (request: SessionRequest, take: boolean) => Promise<OwnerAnswer | Elsewhere>
  /** What a client hears of an error of ours. */
  readonly failure: (requestId: string, error: unknown) => WholeAnswer
}

/** Bytes of an answer that travels in one message. */
const MAX_ANSWER = MESSAGE_LIMIT - 1024 * 1024

/** What a forwarder at another node asks of this one, answered. It mirrors `forwarder.ts`. */
export class OwnerEndpoint {
  readonly #options: OwnerEndpointOptions

  constructor(options: OwnerEndpointOptions) {
    this.#options = options
  }

  /** Never rejects. */
  async onQuestion(from: string, id: number, { content, body }: Said, gone: StopSignal): Promise<Said> {
    const question = content as Question
    try {
      if (question.kind === 'request') return await this.#onRequest(from, id, question, gone, body)
      return await this.#onFollow(from, id, question)
    } catch (error) {
      const { logger, retryInterval: retry } = this.#options.settings
      const { kind, sessionId, streamId: requestId } = question
      const facts = { question: kind, sessionId, requestId, error: errorText(error) }
      logger.error(facts, 'a question of another node failed')
      return kind === 'follow' ? say({ kind: 'cut', retry }) : whole(this.#options.failure(requestId, error))
    }
  }

  async #onRequest(
    from: string,
    id: number,
    asked: RequestQuestion,
    gone: StopSignal,
    body?: Uint8Array,
  ): Promise<Said> {
    const { followers, serve } = this.#options
    const { sessionId, principal, streamId, again, take = false } = asked
    const request = fromWire(asked.request, body)
    const remote = followers.remote(from, id)
    const answer = await serve({ sessionId, principal, streamId, again, request, gone, remote }, take)
    if (typeof answer === 'string')
      return say({ kind: 'moved', ...(answer !== 'moved' && { again: answer }) })
    const { status, headers } = answer
    if ('stream' in answer) return say({ kind: 'stream', status, headers, stream: answer.stream })
    if ('response' in answer) {
      return whole({ status, headers, body: await readBody(answer.response, MAX_ANSWER) })
    }
    if ('tail' in answer)
      throw new Error('A request of another node was answered with a stream for this one.')
    return whole(answer)
  }

  async #onFollow(from: string, id: number, asked: FollowQuestion): Promise<Said> {
    const { owned, followers, settings } = this.#options
    const { sessionId, principal, streamId, take = false, request } = asked
    const found = await owned.find(sessionId, principal, fromWire(request), { own: !take })
    if ('live' in found) {
      const finite = found.live.audience.follow(streamId, followers.remote(from, id))
      return say({ kind: 'following', finite })
    }
    if ('missing' in found) return say({ kind: 'missing' })
    if (!('answer' in found)) return say({ kind: 'moved' })
    return say({ kind: 'cut', retry: settings.retryInterval })
  }
}

function whole({ status, headers, body }: WholeAnswer): Said {
  return say({ kind: 'answer', status, headers }, typeof body === 'string' ? Buffer.from(body) : body)
}
