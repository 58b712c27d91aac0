import type { News } from '../streams/remote-subscriber.ts'

/*
 * Following is a lease, not an event. A node that serves streams of an owner says so once a second, for all of them
 * together: how many, a digest of their numbers, and how much of the owner's news it has heard. The owner answers only
 * where the two differ. So whatever is lost between them, the very last thing included, is learnt within about two
 * seconds; what nobody renews is dropped; and a stream that is open and idle costs no message of its own.
 *
 * A followed stream has the number of the question that it began with (a request, or "let me follow").
 */

/** Milliseconds between two beats. */
export const BEAT = 1000
/** Beats that may fail to come before an owner drops what that node follows. Counted, not timed: a process that was stopped has missed none. */
export const MISSED_BEATS = 5

export type FollowItem =
  /** To the node that follows. `count` counts the news of this owner to that node: 1, 2, 3 … */
  | {
      readonly type: 'news'
      readonly count: number
      readonly to: number
      readonly news: News
      readonly size?: number
    }
  /** To the owner. `seq` counts beats and lists, so that an old one is passed over. */
  | {
      readonly type: 'beat'
      readonly seq: number
      readonly heard: number
      readonly digest: string
      readonly size?: number
    }
  /** To the node that follows: so much was told to you. */
  | { readonly type: 'told'; readonly count: number; readonly size?: number }
  /** To the node that follows: what is it that you follow? */
  | { readonly type: 'which'; readonly size?: number }
  /** To the owner: these; `open` are questions that may yet become followed streams, as may all from `next` on. */
  | {
      readonly type: 'list'
      readonly seq: number
      readonly ids: readonly number[]
      readonly open: readonly number[]
      readonly next: number
      readonly size?: number
    }
  /** To the node that follows: these I do not know. */
  | { readonly type: 'unknown'; readonly ids: readonly number[]; readonly size?: number }
  /** To the owner: that client has gone, after it had everything up to `delivered`. */
  | { readonly type: 'left'; readonly id: number; readonly delivered: number; readonly size?: number }

/** The same for the same numbers in any order. */
export function digestOf(ids: Iterable<number>): string {
  let count = 0
  let sum = 0
  let mixed = 0
  for (const id of ids) {
    count += 1
    sum = (sum + id) % Number.MAX_SAFE_INTEGER
    mixed ^= Math.imul(id ^ (id >>> 15), 0x85ebca6b) ^ Math.imul(id, 0xc2b2ae35)
  }
  return `${count}.${sum}.${mixed >>> 0}`
}
