import { setTimeout as sleep } from 'node:timers/promises'
import type { Store } from 'mcp-persist'

export type NewEvent = Parameters<Store['log']['append']>[0]['events'][number]
export type EventKind = NewEvent['kind']

/**
 * One way to store and read events. Each backend is measured in three: `ours` through the port, `floor`, the least that
 * the driver can do in batches at the same durability, and `naive`, one statement or pipeline per event as it is usually
 * written.
 */
export interface Form {
  /** Stores what is under way at once in any order: several connections do. Default false. */
  readonly unordered?: boolean
  /** Called once before anything is appended to these sessions. */
  open?(sessions: readonly string[]): Promise<void>
  /** Resolves when the event is stored. */
  append(session: string, payload: string): Promise<unknown>
  /** Resolves when these events of one stream are stored, in one step. Left out: this form stores one by one. */
  step?(session: string, events: readonly NewEvent[]): Promise<unknown>
  /** All events after a cursor ('' from the start), in order, as this form reads them for a replay. */
  read(session: string, after: string): Promise<Read>
  /** The same over all streams of the session. Left out: this form knows of none. */
  readAll?(session: string, after: string): Promise<Read>
  /** The first event after a cursor, by the least that this form has to read before it can send one. */
  first(session: string, after: string): Promise<string | undefined>
  /** Bytes that everything stored so far takes, indexes included. */
  bytes(): Promise<number>
}

export interface Read {
  readonly payloads: string[]
  /** The cursor after the last of these. */
  readonly last: string
}

export const FORMS = ['ours', 'floor', 'naive'] as const
export type Forms = Readonly<Record<(typeof FORMS)[number], Form>>

/**
 * Deleting what has expired: `floor` by bare statements or commands of so many rows each, as the store's sweep has them;
 * `naive` all at once.
 */
export interface Sweep {
  /** Stores events that have expired already, so many to a session. */
  fill(events: number, perSession: number): Promise<void>
  /** Deletes all of them, `step` events at a time where it takes steps; how many there were. */
  run(step: number): Promise<number>
}

/** A backend at one durability setting, with nothing stored yet. */
export interface Setting {
  readonly backend: string
  /** Version and durability, as the server says they are. */
  readonly title: string
  readonly durability: string
  readonly store: Store
  readonly forms: Forms
  /** Ours without session records: unfenced logs. */
  readonly logs: Form
  /** Beside the store's sweep, on tables or keys of their own in the same server or file. */
  readonly sweeps: Readonly<Record<'floor' | 'naive', Sweep>>
  /** Expired keys that the backend removes by itself and has not removed yet; 0 where sweeping is ours alone. */
  left(): Promise<number>
  close(): Promise<void>
}

const HOUR = 3_600_000
/** More than any replay here: nothing is trimmed, but the limit is looked after. */
const EVENT_LIMIT = 20_000
/** Events that a replay reads at once. */
const PAGE = 500
const state = { initialize: '{}', initialized: true, protocolVersion: '2025-11-25' }

/** As the engine does it: a session record, appends fenced with its generation and with a limit. Without `records`: a log alone. */
export function port(store: Store, bytes: () => Promise<number>, { records }: { records: boolean }): Form {
  const one = { streamId: 'stream' }
  const page = (sessionId: string, after: number, which: { streamId?: string }) =>
    store.log.read({ sessionId, ...which, after, limit: PAGE })
  const generations = new Map<string, number>()
  const step = (sessionId: string, events: readonly NewEvent[]) => {
    const generation = generations.get(sessionId)
    const fence = generation === undefined ? {} : { generation }
    return store.log.append({ sessionId, events, ttl: HOUR, limit: EVENT_LIMIT, ...fence })
  }
  const read = async (session: string, after: string, which: { streamId?: string }) => {
    const payloads: string[] = []
    let last = Number(after)
    for (let more = true; more; ) {
      const { events, more: further } = await page(session, last, which)
      for (const event of events) payloads.push(event.payload)
      last = events.at(-1)?.position ?? last
      more = further
    }
    return { payloads, last: `${last}` }
  }
  return {
    async open(sessions) {
      if (!records) return
      const create = async (id: string) => {
        const session = { id, principal: null, state, owner: 'bench', ttl: HOUR }
        generations.set(id, await store.sessions.create(session))
      }
      await atOnce(64, sessions, create)
    },
    append: (session, payload) => step(session, [{ ...one, kind: 'message', payload }]),
    step,
    read: (session, after) => read(session, after, one),
    readAll: (session, after) => read(session, after, {}),
    first: async (session, after) => (await page(session, Number(after), one)).events[0]?.payload,
    bytes,
  }
}

/** Runs `task` for every item, `width` at a time. */
export async function atOnce<T>(
  width: number,
  items: readonly T[],
  task: (item: T) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < items.length) await task(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker))
}

/** Collects what arrives in one turn, or while the batch before is under way, and stores it together. */
export class Batch<T> {
  readonly #flush: (items: T[]) => Promise<unknown> | unknown
  #waiting: { item: T; resolve: () => void; reject: (error: unknown) => void }[] = []
  #running = false

  constructor(flush: (items: T[]) => Promise<unknown> | unknown) {
    this.#flush = flush
  }

  add(item: T): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      if (this.#running) return
      this.#running = true
      setImmediate(() => void this.#run())
    })
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting
      this.#waiting = []
      try {
        await this.#flush(batch.map(({ item }) => item))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    this.#running = false
  }
}

let sequence = 0

/** 300 bytes of JSON-RPC, no two alike. */
export function message(): string {
  sequence += 1
  const head = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"${sequence} `
  return `${head.padEnd(297, 'x')}"}}`
}

/** What was acknowledged, and how far it was read back. */
export class Ledger {
  readonly #form: Form
  readonly #inTurn: boolean
  readonly #cursors = new Map<string, string>()
  #expected = new Map<string, string[]>()

  /** `inTurn`: what this form cannot store in one step is awaited one by one. */
  constructor(form: Form, { inTurn = false } = {}) {
    this.#form = form
    this.#inTurn = inTurn
  }

  async append(session: string): Promise<void> {
    const payload = message()
    this.#expect(session, payload)
    await this.#form.append(session, payload)
  }

  /** What the engine stores in one step. */
  async step(session: string, events: readonly NewEvent[]): Promise<void> {
    for (const { payload } of events) this.#expect(session, payload)
    const form = this.#form
    if (form.step) await form.step(session, events)
    else if (this.#inTurn) for (const { payload } of events) await form.append(session, payload)
    else await Promise.all(events.map(({ payload }) => form.append(session, payload)))
  }

  #expect(session: string, payload: string): void {
    const known = this.#expected.get(session)
    if (known) known.push(payload)
    else this.#expected.set(session, [payload])
  }

  /** Rejects unless everything since the last check is there once, in order (where the form has one). */
  async check(): Promise<void> {
    const expected = this.#expected
    this.#expected = new Map()
    await atOnce(32, [...expected], async ([session, payloads]) => {
      const after = this.#cursors.get(session) ?? ''
      const read = await (this.#form.readAll?.(session, after) ?? this.#form.read(session, after))
      this.#cursors.set(session, read.last)
      const [found, stored] = [read.payloads, payloads].map((list) =>
        (this.#form.unordered ? list.sort() : list).join('\n'),
      )
      if (found === stored) return
      const facts = `${payloads.length} events acknowledged, ${read.payloads.length} read`
      throw new Error(`lost, doubled or out of order in ${session}: ${facts}`)
    })
  }
}

/** Asks until `done`, for what has no signal. */
export async function until(
  what: string,
  seconds: number,
  done: () => Promise<boolean> | boolean,
): Promise<void> {
  const deadline = performance.now() + seconds * 1000
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`waited ${seconds} s in vain for ${what}`)
    await sleep(20)
  }
}
