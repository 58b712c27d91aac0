import { PersistError } from '../../errors.ts'
import { Stop, type StopSignal } from '../../stop.ts'
import type { Item } from './message.ts'
import { Settled } from './settled.ts'

/** What the exchange says; ids count up, for each pair and each direction from 1. */
export type ExchangeItem =
  /**
   * A question. Everything below `floor` is settled for the one who asks, and may be forgotten. `left`: whoever wanted the
   * answer has gone.
   */
  | {
      readonly type: 'ask'
      readonly id: number
      readonly floor: number
      readonly question: object
      readonly left?: true
      readonly size?: number
    }
  /** It has arrived, and is being worked at. */
  | { readonly type: 'got'; readonly id: number; readonly size?: number }
  /** Is it still? */
  | { readonly type: 'after'; readonly id: number; readonly left?: true; readonly size?: number }
  | { readonly type: 'answer'; readonly id: number; readonly answer: object; readonly size?: number }
  /** The answer is not to be had: too much is unanswered here. */
  | { readonly type: 'busy'; readonly id: number; readonly size?: number }
  /** These answers have arrived, and may be forgotten. */
  | { readonly type: 'done'; readonly ids: readonly number[]; readonly floor: number; readonly size?: number }

export interface Said {
  readonly content: object
  readonly body?: Uint8Array | undefined
}

export interface ExchangeOptions {
  /** Best effort. */
  readonly send: (nodeId: string, item: ExchangeItem & Item, body?: Uint8Array) => void
  /**
   * Answers a question of another node. Its rejection is a mistake of ours: it is answered by what it resolves with. `gone`
   * is said when nobody wants the answer any more.
   */
  readonly onQuestion: (from: string, id: number, question: Said, gone: StopSignal) => Promise<Said>
  /** Bytes of questions and answers that are remembered at the most. Default 64 MiB. */
  readonly limit?: number
}

// Milliseconds. A question is sent again after 250, 500, 1,000, 2,000, 2,000 … until somebody says that it has arrived.
const AGAIN = 250
const AGAIN_MOST = 2000
/** From then on it is asked after. */
const AFTER = 5000
/**
 * Receipt is acknowledged by the answer, if it comes as soon as this; most do. It is less than `AGAIN`, so that a question
 * with a large body is not sent twice for want of a word.
 */
const GOT = 100
/** That answers have arrived is said with the next question, or by then: well before the answer is said again. */
const DONE = 50
/** Questions of one node that may be unanswered at a time. */
const MAX_QUESTIONS = 20_000

interface Asking {
  readonly id: number
  readonly question: Said
  readonly resolve: (answer: Said | 'gone') => void
  readonly reject: (error: unknown) => void
  wait: number
  received: boolean
  /** Nobody here wants the answer any more. */
  left: boolean
  /** Forgets whoever may leave. */
  forget: () => void
  timer: NodeJS.Timeout | undefined
}

interface Asked {
  readonly id: number
  readonly gone: Stop
  /** Bytes that it is remembered with. */
  bytes: number
  answer: Said | undefined
  wait: number
  timer: NodeJS.Timeout | undefined
}

interface Pair {
  readonly asking: Map<number, Asking>
  readonly asked: Map<number, Asked>
  /** The id of our next question. */
  next: number
  /** Their questions below are settled: what still comes of them is a late double. */
  floor: number
  /** Those at or above the floor that are settled as well. */
  readonly settled: Settled
  /** Our questions whose answers have arrived, and the other node has not been told. */
  readonly done: number[]
  doneTimer: NodeJS.Timeout | undefined
  /** Questions that were not taken. Another copy of one must not be taken either: its asker may have heard so. */
  readonly refused: Set<number>
}

/**
 * Questions and answers over a way on which anything may be lost, doubled, delayed and overtaken. This is the only
 * place that says something again:
 *
 * - whoever asks, until it hears that the question has arrived; then it asks after it, slowly;
 * - whoever answers, until it hears that the answer has arrived.
 *
 * A question is worked at once, however often it comes: it is remembered until its answer has arrived, and after that
 * its number stays settled. (A number below the floor that the asker names with each question was settled before; so
 * what is remembered of settled ones stays small.) It ends for the asker with the answer, or when the other node is
 * known to be gone. Nothing that is unanswered is forgotten: at the bound of memory a *new* question is refused.
 */
export class Exchange {
  readonly #options: ExchangeOptions
  readonly #pairs = new Map<string, Pair>()
  #bytes = 0

  constructor(options: ExchangeOptions) {
    this.#options = options
  }

  /**
   * Asks, and resolves with the answer; or with `gone` when that node is, and may or may not have worked at it.
   * Rejects with `OVERLOADED` when the other node cannot take it. `begin` learns the question's number before it is sent.
   * `gone`: nobody wants the answer any more. The other node is told so at once, and each time that it is asked after it, for
   * that word may be lost as well; what it makes of that is its own affair, and the answer is waited for as ever.
   */
  ask(
    nodeId: string,
    question: Said,
    begin?: (id: number) => void,
    gone?: StopSignal,
  ): Promise<Said | 'gone'> {
    const pair = this.#pair(nodeId)
    const id = pair.next
    pair.next += 1
    begin?.(id)
    return new Promise((resolve, reject) => {
      const asking: Asking = {
        id,
        question,
        resolve,
        reject,
        wait: AGAIN,
        received: false,
        left: gone?.stopped ?? false,
        forget: () => {},
        timer: undefined,
      }
      pair.asking.set(id, asking)
      this.#say(nodeId, pair, asking)
      if (!gone || gone.stopped) return
      asking.forget = gone.onStop(() => {
        asking.left = true
        clearTimeout(asking.timer)
        this.#say(nodeId, pair, asking)
      })
    })
  }

  /** Bytes of questions and answers that are remembered for others. */
  get remembered(): number {
    return this.#bytes
  }

  /** Does somebody here still want an answer? */
  get wanted(): boolean {
    return [...this.#pairs.values()].some(({ asking }) => [...asking.values()].some(({ left }) => !left))
  }

  /** The nodes that something is asked of. */
  waitingFor(): readonly string[] {
    return [...this.#pairs].filter(([, { asking }]) => asking.size > 0).map(([nodeId]) => nodeId)
  }

  /** The number of the next question to that node. */
  nextId(nodeId: string): number {
    return this.#pair(nodeId).next
  }

  receive(from: string, item: ExchangeItem, body: Uint8Array | undefined): void {
    const pair = this.#pair(from)
    switch (item.type) {
      case 'ask':
        return void this.#onAsk(from, pair, item, { content: item.question, body })
      case 'after':
        return void this.#onAfter(from, pair, item)
      case 'done':
        return void this.#onDone(pair, item.ids, item.floor)
      case 'got':
        return void this.#onGot(from, pair, item.id)
      case 'busy': {
        const reason = 'The node that owns the session has too much to do.'
        const asking = this.#settle(from, pair, item.id)
        return void asking?.reject(new PersistError('OVERLOADED', reason))
      }
      case 'answer':
        return void this.#onAnswer(from, pair, item.id, { content: item.answer, body })
    }
  }

  /** That node is gone: nobody there answers, and nobody there waits. */
  gone(nodeId: string): void {
    const pair = this.#pairs.get(nodeId)
    if (!pair) return
    this.#pairs.delete(nodeId)
    for (const { timer, bytes, gone } of pair.asked.values()) {
      clearTimeout(timer)
      this.#bytes -= bytes
      gone.stop()
    }
    pair.asked.clear()
    clearTimeout(pair.doneTimer)
    for (const { timer, forget, resolve } of pair.asking.values()) {
      clearTimeout(timer)
      forget()
      resolve('gone')
    }
  }

  /** This node has another id, or ends: to everybody it is gone, and so are they to it. */
  reset(): void {
    for (const nodeId of [...this.#pairs.keys()]) this.gone(nodeId)
  }

  // --- the one who asks

  #say(nodeId: string, pair: Pair, asking: Asking): void {
    const { id, question, received, left } = asking
    const { send } = this.#options
    const more = left ? ({ left } as const) : {}
    this.#sayDone(nodeId, pair)
    if (received) send(nodeId, { type: 'after', id, ...more })
    else {
      const floor = floorOf(pair)
      send(nodeId, { type: 'ask', id, floor, question: question.content, ...more }, question.body)
    }
    asking.timer = timer(() => this.#say(nodeId, pair, asking), asking.wait)
    asking.wait = received ? AFTER : Math.min(asking.wait * 2, AGAIN_MOST)
  }

  #onGot(nodeId: string, pair: Pair, id: number): void {
    const asking = pair.asking.get(id)
    if (!asking || asking.received) return
    asking.received = true
    asking.wait = AFTER
    clearTimeout(asking.timer)
    asking.timer = timer(() => this.#say(nodeId, pair, asking), AFTER)
  }

  #onAnswer(from: string, pair: Pair, id: number, answer: Said): void {
    this.#settle(from, pair, id)?.resolve(answer)
  }

  /** Says that it is settled, also when the answer comes once more: then our word was lost. */
  #settle(from: string, pair: Pair, id: number): Asking | undefined {
    const asking = pair.asking.get(id)
    clearTimeout(asking?.timer)
    asking?.forget()
    pair.asking.delete(id)
    pair.done.push(id)
    pair.doneTimer ??= timer(() => this.#sayDone(from, pair), DONE)
    return asking
  }

  #sayDone(nodeId: string, pair: Pair): void {
    clearTimeout(pair.doneTimer)
    pair.doneTimer = undefined
    if (pair.done.length === 0) return
    this.#options.send(nodeId, { type: 'done', ids: pair.done.splice(0), floor: floorOf(pair) })
  }

  // --- the one who answers

  #onAsk(from: string, pair: Pair, item: ExchangeItem & { type: 'ask' }, question: Said): void {
    const { send, limit = 64 * 1024 * 1024, onQuestion } = this.#options
    const { id, floor, left } = item
    this.#raise(pair, floor)
    if (id < pair.floor || pair.settled.has(id)) return
    if (pair.asked.has(id)) return void this.#onAfter(from, pair, item)
    const bytes = bytesOf(question)
    if (pair.refused.has(id) || this.#bytes + bytes > limit || pair.asked.size >= MAX_QUESTIONS) {
      pair.refused.add(id)
      return void send(from, { type: 'busy', id })
    }
    const gone = new Stop()
    if (left) gone.stop()
    const asked: Asked = { id, gone, bytes, answer: undefined, wait: AGAIN, timer: undefined }
    this.#bytes += bytes
    pair.asked.set(id, asked)
    asked.timer = timer(() => send(from, { type: 'got', id }), GOT)
    void onQuestion(from, id, question, gone).then((answer) => this.#answer(from, pair, asked, answer))
  }

  #answer(from: string, pair: Pair, asked: Asked, answer: Said): void {
    // Who asked is gone meanwhile.
    if (pair.asked.get(asked.id) !== asked) return
    const bytes = bytesOf(answer)
    this.#bytes += bytes - asked.bytes
    asked.bytes = bytes
    asked.answer = answer
    this.#sayAnswer(from, asked)
  }

  #sayAnswer(from: string, asked: Asked): void {
    const { id, answer } = asked
    clearTimeout(asked.timer)
    this.#options.send(from, { type: 'answer', id, answer: answer!.content }, answer!.body)
    asked.timer = timer(() => this.#sayAnswer(from, asked), asked.wait)
    asked.wait = Math.min(asked.wait * 2, AFTER)
  }

  #onAfter(from: string, pair: Pair, { id, left }: { readonly id: number; readonly left?: true }): void {
    const asked = pair.asked.get(id)
    if (left) asked?.gone.stop()
    // Not known: it never arrived, and whoever asks will say it again when it has heard nothing. It has heard `got`
    // only from a node that remembers.
    if (!asked) return
    if (asked.answer) this.#sayAnswer(from, asked)
    else this.#options.send(from, { type: 'got', id })
  }

  #onDone(pair: Pair, ids: readonly number[], floor: number): void {
    for (const id of ids) {
      if (id >= pair.floor) pair.settled.add(id)
      pair.refused.delete(id)
      this.#forget(pair, id)
    }
    this.#raise(pair, floor)
  }

  /** Whoever asks names the least number that is not settled: all below are. */
  #raise(pair: Pair, floor: number): void {
    if (floor <= pair.floor) return
    pair.floor = floor
    pair.settled.forgetBelow(floor)
    for (const id of pair.refused) if (id < floor) pair.refused.delete(id)
    for (const id of pair.asked.keys()) if (id < floor) this.#forget(pair, id)
  }

  #forget(pair: Pair, id: number): void {
    const asked = pair.asked.get(id)
    if (!asked) return
    clearTimeout(asked.timer)
    pair.asked.delete(id)
    this.#bytes -= asked.bytes
  }

  #pair(nodeId: string): Pair {
    let pair = this.#pairs.get(nodeId)
    if (!pair) {
      pair = {
        asking: new Map(),
        asked: new Map(),
        next: 1,
        floor: 1,
        settled: new Settled(),
        refused: new Set(),
        done: [],
        doneTimer: undefined,
      }
      this.#pairs.set(nodeId, pair)
    }
    return pair
  }
}

/** Questions are numbered in the order in which they are asked, so the oldest that is open comes first. */
function floorOf(pair: Pair): number {
  return pair.asking.keys().next().value ?? pair.next
}

/** What it is remembered with: its body, and about as much again as headers and the rest take. */
function bytesOf({ body }: Said): number {
  return (body?.byteLength ?? 0) + 2048
}

function timer(work: () => void, ms: number): NodeJS.Timeout {
  const started = setTimeout(work, ms)
  started.unref()
  return started
}
