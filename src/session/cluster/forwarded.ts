import type { AppRequest } from '../../app/app.ts'
import { monotonicNow } from '../../clock.ts'
import type { Principals } from '../protocol/principal.ts'
import type { News } from '../streams/remote-subscriber.ts'
import { isLast } from '../streams/stream.ts'
import type { Tail } from '../streams/tail.ts'

export interface ForwardedOptions {
  readonly sessionId: string
  readonly principal: Principals
  /** Who asked, for whatever has to be asked in the client's name later. */
  readonly caller: AppRequest
  /** The owner has nothing more to say of the stream, and it is not over. */
  readonly onOrphaned: (forwarded: Forwarded) => void
}

/** Pieces of news that are kept for a stream whose answer is not here yet; then the log is read. */
const MAX_EARLY = 64
const LOOK = { look: true } as const

/**
 * One request that another node answers, from the question to the end of its stream. News may be here before the answer
 * is: they are kept in their order, and told to the stream when it begins.
 */
export class Forwarded {
  readonly sessionId: string
  readonly principal: Principals
  readonly caller: AppRequest
  /** Monotonic ms. */
  readonly since = monotonicNow()
  readonly #onOrphaned: ForwardedOptions['onOrphaned']
  /** The owner that feeds it, and the number of the question that it goes by there. */
  place: { readonly nodeId: string; readonly id: number } | undefined
  /** The owner has told how it ends. */
  over = false
  #tail: Tail | undefined
  #early: News[] = []

  constructor({ sessionId, principal, caller, onOrphaned }: ForwardedOptions) {
    this.sessionId = sessionId
    this.principal = principal
    this.caller = caller
    this.#onOrphaned = onOrphaned
  }

  /** The client's stream; undefined as long as the answer may be something else. */
  get tail(): Tail | undefined {
    return this.#tail
  }

  begin(tail: Tail): void {
    this.#tail = tail
    for (const news of this.#early.splice(0)) this.hear(news)
  }

  hear(news: News): void {
    const tail = this.#tail
    if (!tail) return void this.#keep(news)
    if ('look' in news) return void tail.nudge()
    this.over = 'over' in news || isLast(news.update)
    if ('update' in news) return void tail.push(news.update)
    switch (news.over) {
      case 'cut':
        return void tail.cutAfter(news.at ?? 0, news.retry)
      case 'close':
        return void tail.close()
      case 'finite':
        return void tail.endAfterStored()
      case 'moved':
        return void this.#onOrphaned(this)
    }
  }

  /** Something that was told of it is lost; perhaps before its stream has begun. */
  look(): void {
    this.hear(LOOK)
  }

  /** Beyond the bound events are left to the log; how the stream is over is always kept. */
  #keep(news: News): void {
    const isFull = this.#early.length >= MAX_EARLY
    const kept = isFull && !('over' in news) ? LOOK : news
    if (kept !== LOOK || this.#early.at(-1) !== LOOK) this.#early.push(kept)
  }
}
