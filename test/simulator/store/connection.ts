import type { Outcome } from '../../../src/store/common/group-commit.ts'
import type {
  Append,
  Appended,
  Bus,
  EventLog,
  NodeTable,
  SessionTable,
  Subscription,
} from '../../../src/store/port.ts'
import type { Source } from '../load-source.ts'
import type { Process, Time } from '../time.ts'
import type { Trace } from '../trace.ts'
import type { Faults } from './faults.ts'
import type { StoreServer } from './server.ts'

export interface ConnectionOptions {
  readonly source: Source
  readonly time: Time
  readonly server: StoreServer
  readonly process: Process
  readonly faults: Faults
  readonly trace: Trace
  /** Events of that session were refused. */
  readonly onUnstored: (session: string) => void
}

// Milliseconds that a driver waits for an answer.
const TIMEOUT = 2500

/** A node's way to the store: what a driver is, over a line on which anything may happen. */
export class StoreConnection {
  readonly #options: ConnectionOptions
  #away = false
  /** When it was back last. */
  #back = Number.NEGATIVE_INFINITY
  #fresh = true
  /** Restarts of the server that this connection has seen. */
  #lives = 0
  readonly #hearing = new Set<Hearing>()
  /** Operations without an answer. */
  pending = 0
  readonly log: EventLog
  readonly sessions: SessionTable
  readonly nodes: NodeTable
  readonly bus: Bus

  constructor(options: ConnectionOptions) {
    this.#options = options
    const { source, server, process } = options
    const batches = new source.GroupCommit<Append, Appended>((batch) => this.#append(batch))
    const ask = <T>(operation: string, work: () => Promise<T>, facts = '') =>
      this.#ask(operation, work, facts)
    this.log = {
      append: (append) =>
        batches.add(append).catch((error: unknown) => {
          if (source.isPersistError(error, 'STORE_UNAVAILABLE')) options.onUnstored(append.sessionId)
          throw error
        }),
      read: (query) =>
        ask(
          'log.read',
          () => server.memory.log.read(query),
          `${query.streamId ?? 'all'} after ${query.after}`,
        ),
      delete: (id) => ask('log.delete', () => server.delete(id)),
    }
    this.sessions = {
      create: (session) => ask('sessions.create', () => server.create(session), session.id),
      get: (id) => ask('sessions.get', () => server.memory.sessions.get(id), id),
      claim: (id, claim) => ask('sessions.claim', () => server.claim(id, claim), `${id} for ${claim.owner}`),
      release: (id, generation) => ask('sessions.release', () => server.release(id, generation), id),
      update: (...args) => ask('sessions.update', () => server.update(...args), args[0]),
      touch: (touches) =>
        ask('sessions.touch', () => server.touch(touches), touches.map(({ id }) => id).join(' ')),
      terminate: (id) => ask('sessions.terminate', () => server.terminate(id), id),
      list: (query) => ask('sessions.list', () => server.memory.sessions.list(query)),
    }
    this.nodes = {
      register: (node, lease) => ask('nodes.register', () => server.register(node, lease), node.id),
      renew: (id, lease) => ask('nodes.renew', () => server.renew(id, lease), id),
      unregister: (id) => ask('nodes.unregister', () => server.unregister(id), id),
      get: (id) => ask('nodes.get', () => server.memory.nodes.get(id), id),
      list: () => ask('nodes.list', () => server.memory.nodes.list()),
    }
    this.bus = {
      send: (id, message) =>
        ask('bus.send', () => server.memory.bus.send(id, message), `${id} ${message.byteLength} B`),
      receive: (id, onMessage) =>
        this.#hear(`to:${id}`, onMessage, (heard) => server.memory.bus.receive(id, heard)),
      publish: (channel, text) =>
        ask('bus.publish', () => server.memory.bus.publish(channel, text), `${channel} ${text}`),
      subscribe: (channel, onWake) =>
        this.#hear(channel, onWake, (heard) => server.memory.bus.subscribe(channel, heard)),
    }
    server.onRestart.add(() => {
      this.#lives += 1
      if (process.alive) this.drop(50)
    })
  }

  sweep(limit: number): Promise<boolean> {
    return this.#ask('sweep', () => this.#options.server.sweep(limit), '')
  }

  /** The connection on which this node hears the others is gone, and back in `ms`: what was said meanwhile is lost. */
  drop(ms: number): void {
    for (const hearing of this.#hearing) hearing.drop(ms)
  }

  /** Nothing gets through. */
  get away(): boolean {
    return this.#away
  }

  set away(away: boolean) {
    if (this.#away && !away) this.#back = this.#options.time.now
    this.#away = away
  }

  isAwaySince(moment: number): boolean {
    return this.#away || this.#back >= moment
  }

  /** Subscriptions that are open. */
  get hearing(): number {
    return this.#hearing.size
  }

  /** One operation: there, done or not, and back. */
  #ask<T>(operation: string, work: () => Promise<T>, facts: string): Promise<T> {
    const { time, server, process, faults, trace } = this.#options
    const { there, back, fails, twice } = faults.passage(operation)
    this.pending += 1
    return new Promise<T>((resolve, reject) => {
      let over = false
      const settle = (ms: number, outcome: string, settled: () => void) =>
        time.after(
          ms,
          () => {
            if (over) return
            over = true
            this.pending -= 1
            timeout.cancel()
            if (trace.on) trace.say(process.name, `store ${operation} ${facts}: ${outcome}`)
            settled()
          },
          process,
        )
      const unavailable = () => reject(this.#unavailable(operation))
      const timeout = time.after(TIMEOUT, () => settle(0, 'no answer', unavailable), process)
      if (this.away || fails === 'before') {
        this.#note()
        return void settle(there + back, 'failed', unavailable)
      }
      time.after(
        there,
        () => {
          server.count(operation)
          const done = twice ? work().then(work, work) : work()
          done.then(
            (value) => {
              if (fails || this.away) {
                this.#note()
                settle(back, 'done, and failed', unavailable)
              } else settle(back, trace.on ? short(value) : '', () => resolve(value))
            },
            (error) => settle(back, String(error), () => reject(error)),
          )
        },
        server.process,
      )
    })
  }

  async #append(batch: readonly Append[]): Promise<readonly Outcome<Appended>[]> {
    const { server, process, faults, trace } = this.#options
    const facts = trace.on ? batch.map(described).join('; ') : ''
    const { fails } = faults.passage('log.append')
    if (fails === 'half') {
      this.#note()
      const half = batch.slice(0, Math.floor(batch.length / 2))
      await this.#ask('log.append ', () => server.append(half, process.name), `${facts} (cut)`)
      throw this.#unavailable('log.append')
    }
    return this.#ask('log.append', () => server.append(batch, process.name), facts)
  }

  async #hear<T>(
    channel: string,
    onHeard: (what: T | undefined) => void,
    subscribe: (heard: (what: T | undefined) => void) => Promise<Subscription>,
  ): Promise<Subscription> {
    const { time, process, faults, server, trace } = this.#options
    const first = this.#fresh
    this.#fresh = false
    if (first && faults.firstSubscriptionFails()) {
      this.#note()
      return this.#ask('bus.subscribe', () => Promise.reject(this.#unavailable('bus.subscribe')), channel)
    }
    const hearing = new Hearing()
    const deliver = (what: T | undefined) => {
      if (hearing.down || this.away) return void this.#note()
      const deliveries = faults.deliveries()
      if (deliveries.length !== 1) this.#note()
      if (deliveries.length === 0 && trace.on) trace.say(process.name, `does not hear ${told(what)}`)
      for (const ms of deliveries) {
        const hear = () => {
          if (hearing.closed) return
          if (trace.on) trace.say(process.name, `hears ${told(what)}`)
          onHeard(what)
        }
        time.after(ms, hear, process)
      }
    }
    const lived = this.#lives
    const subscription = await this.#ask('bus.subscribe', () => subscribe(deliver), channel)
    if (lived !== this.#lives) {
      // The server that was asked is gone, and the connection with it.
      this.#note()
      await subscription.close()
      throw this.#unavailable('bus.subscribe')
    }
    hearing.subscription = subscription
    hearing.drop = (ms) => {
      this.#note()
      hearing.down = true
      if (trace.on) trace.say(process.name, `does not hear ${channel} for ${ms} ms`)
      const back = async () => {
        void hearing.subscription?.close()
        hearing.subscription = await subscribe(deliver)
        if (hearing.closed) return void hearing.subscription.close()
        hearing.down = false
        time.after(0, () => !hearing.closed && onHeard(undefined), process)
      }
      time.after(ms, () => void back(), server.process)
    }
    this.#hearing.add(hearing)
    return {
      close: async () => {
        if (hearing.closed) return
        hearing.closed = true
        this.#hearing.delete(hearing)
        await this.#ask('bus.unsubscribe', async () => hearing.subscription?.close(), channel).catch(() => {})
      },
    }
  }

  #note(): void {
    const { faults, time } = this.#options
    faults.last = time.now
  }

  #unavailable(operation: string): Error {
    const { PersistError } = this.#options.source
    return new PersistError('STORE_UNAVAILABLE', `The simulated store did not do ${operation}.`)
  }
}

class Hearing {
  subscription: Subscription | undefined
  closed = false
  /** The connection is gone: nothing is heard. */
  down = false
  drop: (ms: number) => void = () => {}
}

function told(what: unknown): string {
  return typeof what === 'string' ? what : what === undefined ? 'that something may be missing' : 'a message'
}

function described({ sessionId, events, generation }: Append): string {
  const each = events.map(({ streamId, kind, payload }) => `${streamId} ${kind} ${payload.slice(0, 120)}`)
  return `${sessionId} g${generation}: ${each.join(', ')}`
}

function short(value: unknown): string {
  return (JSON.stringify(value) ?? 'done').slice(0, 160)
}
