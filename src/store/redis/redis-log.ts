import { randomBytes } from 'node:crypto'
import type { PersistError } from '../../errors.ts'
import { awayIn, type Outcome } from '../common/group-commit.ts'
import { fenced, gone } from '../common/refusals.ts'
import type { Append, Appended, EventLog, Page } from '../port.ts'
import { type Call, calls, headOf, type Unit, units } from './redis-batch.ts'
import { ALWAYS, READS, REPEATABLE, type RedisConnection } from './redis-connection.ts'
import { decode, streamName } from './redis-entry.ts'
import { translate } from './redis-errors.ts'
import type { RedisKeys } from './redis-keys.ts'
import { RedisLanes } from './redis-lanes.ts'
import { APPEND } from './scripts/append.ts'
import { READ } from './scripts/read.ts'

/**
 * One list per session. Group commit: the appends that wait are merged by session and travel in one script call for
 * up to 64 sessions (in a cluster: one call per session, since each may live on another node).
 */
export class RedisLog implements EventLog {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  readonly #lanes: RedisLanes
  readonly #cluster: boolean
  /** Names us to the append script, which keeps the number of our last append to each session. */
  readonly #sender = randomBytes(6).toString('base64url')
  #number = 0

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    options: { cluster: boolean; maxWaiting: number },
  ) {
    this.#connection = connection
    this.#keys = keys
    this.#cluster = options.cluster
    this.#lanes = new RedisLanes((appends) => this.#flush(appends), options)
  }

  append(append: Append): Promise<Appended> {
    try {
      this.#connection.assertOpen()
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#lanes.add(append)
  }

  async read(query: { sessionId: string; streamId?: string; after: number; limit: number }): Promise<Page> {
    this.#connection.assertOpen()
    const { entries, ...page } = await this.entries(query)
    return { ...page, events: entries.map(decode) }
  }

  /** A page whose events are as they lie in the list. */
  async entries(query: {
    sessionId: string
    streamId?: string
    after: number
    limit: number
  }): Promise<Omit<Page, 'events'> & { entries: Buffer[] }> {
    const { sessionId, streamId, limit } = query
    const { log } = this.#keys.session(sessionId)
    const filter = streamId === undefined ? ['0', ''] : ['1', streamName(streamId)]
    let { after } = query
    let corrupt = 0
    for (;;) {
      const args = [...filter, after, limit]
      const answer = await this.#connection.evalBuffer(READ, [log], args, READS)
      const [epoch, floor, last, more, damaged, upTo, ...entries] = answer as Buffer[]
      if (epoch === undefined) {
        const nothing = { floor: 0, last: 0, corrupt: 0, scanned: query.after }
        return { entries: [], more: false, epoch: undefined, ...nothing }
      }
      corrupt += Number(damaged)
      // A script looks at so many events and no more: none of them may have been of the stream asked for.
      const scanned = Number(upTo)
      if (entries.length === 0 && Number(more) === 1) after = scanned
      else {
        const numbers = { floor: Number(floor), last: Number(last), corrupt, scanned }
        return { entries, more: Number(more) === 1, epoch: `${epoch}`, ...numbers }
      }
    }
  }

  async delete(sessionId: string): Promise<void> {
    this.#connection.assertOpen()
    const { log, record, open } = this.#keys.session(sessionId)
    await this.#connection.call('unlink', [log, record, open], REPEATABLE)
  }

  /** Resolves when every accepted append has settled. */
  settled(): Promise<void> {
    return this.#lanes.settled()
  }

  async #flush(appends: readonly Append[]): Promise<readonly Outcome<Appended>[]> {
    const outcomes: Outcome<Appended>[] = new Array(appends.length)
    // Rounds one after another: a session's appends that cannot share a script call keep their order.
    for (const round of units(appends)) {
      const sent = calls(round, this.#cluster ? 1 : 64).map((call) => this.#send(call, outcomes))
      await Promise.all(sent)
      const away = awayIn(outcomes)
      if (away) return Array.from(outcomes, (outcome) => outcome ?? away)
    }
    return outcomes
  }

  async #send(call: Call, outcomes: Outcome<Appended>[]): Promise<void> {
    const keys: string[] = []
    for (const { append } of call) {
      const { log, record, open } = this.#keys.session(append.sessionId)
      keys.push(log)
      // A cluster must know all that a script touches; another server has less to read.
      if (this.#cluster) keys.push(record, open)
    }
    const { append, entries } = call[0]!
    const { ttl, touch = true, limit = '' } = append
    const epoch = randomBytes(4).toString('hex')
    const terms = [Math.ceil(ttl), touch ? '1' : '0', limit, entries.length]
    const args: (string | number)[] = [this.#sender, epoch, this.#number + 1, ...terms]
    this.#number += call.length
    for (const unit of call) {
      args.push(headOf(unit))
      for (const entry of unit.entries) args.push(entry)
    }
    let answers: (number | string)[]
    try {
      // Not refused for what else is waiting: the lanes have counted it already.
      answers = (await this.#connection.eval(APPEND, keys, args, ALWAYS)) as typeof answers
    } catch (error) {
      for (const unit of call) for (const { index } of unit.parts) outcomes[index] = { error }
      return
    }
    for (const [i, unit] of call.entries()) {
      this.#settle(unit, answers[2 * i] as number, `${answers[2 * i + 1]}`, outcomes)
    }
  }

  #settle({ append, parts }: Unit, first: number, fact: string, outcomes: Outcome<Appended>[]): void {
    let position = first
    for (const { index, count } of parts) {
      if (first < 0) {
        outcomes[index] = { error: this.#refusal(append, first, fact) }
        continue
      }
      const positions: number[] = []
      for (let i = 0; i < count; i++) positions.push(position++)
      outcomes[index] = { ok: { positions, epoch: fact } }
    }
  }

  #refusal({ sessionId, generation }: Append, code: number, fact: string): PersistError {
    if (code === -1) return fenced(sessionId, generation!, Number(fact))
    if (code === -2) return gone(sessionId)
    return translate(this.#connection.where, new Error(fact))
  }
}
