import type { AppRequest } from '../../app/app.ts'
import { delay } from '../../clock.ts'
import type { FewMap } from '../../few.ts'
import type { EventLog } from '../../store/port.ts'
import type { WholeAnswer } from '../protocol/answer.ts'
import { interruptedAnswer } from '../protocol/interrupted.ts'
import type { Request } from '../protocol/json-rpc.ts'
import type { SessionLog } from '../streams/session-log.ts'
import type { Handling } from './handling.ts'
import { SessionLeft } from './session-left.ts'

export interface AskedAgainOptions {
  readonly sessionId: string
  readonly store: EventLog
  readonly log: SessionLog
  /** The calls that run here, by their streams. */
  readonly running: FewMap<string, { readonly request: AppRequest }>
}

/** A call that stands in the log: what its client is told, where that is no stream; or under which name it was made again. */
export interface Known {
  readonly answer?: WholeAnswer
  readonly next?: string
}

/** Milliseconds until a call is asked for again whose end waits for the store. */
const WAITING = 100
/** Calls of a session that are remembered for having been asked for again. */
const MAX_ASKED_AGAIN = 1000

/** Calls that other nodes ask for once more, because an owner took the first word of them with it. */
export class AskedAgain {
  readonly #options: AskedAgainOptions
  /** By their streams: how often each has been begun here since. */
  readonly #begun = new Map<string, number>()

  constructor(options: AskedAgainOptions) {
    this.#options = options
  }

  /**
   * A node that has another id asks once more under that one, and its first question may come after: by then the call is made,
   * and perhaps over.
   */
  note(how: Handling): Handling {
    const { streamId } = how
    if (this.#begun.has(streamId)) return how.again ? how : { ...how, again: 'recorded' }
    if (!how.again) return how
    this.#begun.set(streamId, 0)
    if (this.#begun.size > MAX_ASKED_AGAIN) this.#begun.delete(this.#begun.keys().next().value!)
    return how
  }

  /** A call is begun. */
  began(streamId: string): void {
    const begun = this.#begun.get(streamId)
    if (begun !== undefined) this.#begun.set(streamId, begun + 1)
  }

  /** How often it has been begun here since; what was read of it before another time is out of date. */
  times(streamId: string): number | undefined {
    return this.#begun.get(streamId)
  }

  /** What is known of a call that may have been made; undefined: nothing. Rejects with `SessionLeft` as long as that is on its way. */
  async find(
    streamId: string,
    request: AppRequest,
    requests: readonly Request[],
  ): Promise<Known | undefined> {
    const { log, running } = this.#options
    if (running.has(streamId)) return {}
    // It may have ended here a moment ago; and what the store does not take yet nobody finds in the log.
    await log.flush()
    if (log.waiting(streamId)) {
      await delay(WAITING)
      throw new SessionLeft('recorded')
    }
    const known = await this.look(streamId, requests)
    // Whoever has asked may have asked twice, and it is made by now.
    if (known || running.has(streamId)) return known ?? {}
    // A store that has lost what it knew of the call may also have lost under which name it was made again.
    const text = openPayload(request)
    for (const [next, call] of running.entries()) if (openPayload(call.request) === text) return { next }
    return undefined
  }

  /** What the log knows of a call; undefined: nothing, so that the app has not heard of it. */
  async look(streamId: string, requests: readonly Request[]): Promise<Known | undefined> {
    const { store, sessionId } = this.#options
    const [first, second] = (await store.read({ sessionId, streamId, after: 0, limit: 2 })).events
    if (!first) return undefined
    // A stream with nothing in it would tell its client nothing: it is told the refusal, that it was cancelled; or that
    // nobody knows.
    if (second?.kind !== 'end') return {}
    return second.payload === '' ? { answer: interruptedAnswer(requests) } : parseEnd(second.payload)
  }
}

/** The record of a call: what a later owner needs to run it again, or to answer it with an error. */
export function openPayload(request: AppRequest): string {
  return Buffer.from(request.body ?? '').toString()
}

function parseEnd(payload: string): Known {
  const end = JSON.parse(payload) as WholeAnswer | { readonly next: string }
  return 'next' in end ? end : { answer: end }
}
