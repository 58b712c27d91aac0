import type { PersistOptions } from '../../src/options.ts'
import { SimulatedApp } from './app/app.ts'
import { ClientCall, script } from './client/call.ts'
import { SimulatedClient } from './client/client.ts'
import { Wire } from './client/http.ts'
import { Listening } from './client/listening.ts'
import { ALL_INGREDIENTS, type Ingredient } from './ingredients.ts'
import { checkAnswered, checkExpired, checkLeftovers } from './invariants/end.ts'
import { Violations } from './invariants/violations.ts'
import { Writes } from './invariants/writes.ts'
import { Ledger } from './ledger.ts'
import { returnLate } from './life.ts'
import type { Source } from './load-source.ts'
import { SimulatedNode } from './node.ts'
import { Random } from './random.ts'
import { StoreConnection } from './store/connection.ts'
import { Faults } from './store/faults.ts'
import { StoreServer } from './store/server.ts'
import { Process, Time } from './time.ts'
import { Trace } from './trace.ts'

export interface WorldOptions {
  readonly source: Source
  readonly seed: number
  readonly has: ReadonlySet<Ingredient>
  readonly trace?: boolean
}

/** Worlds in which a node may not know how far a client got that does not say so. */
const UNDELIVERED: readonly Ingredient[] = [
  ...ALL_INGREDIENTS.filter((each) => /^(store|messages)-/.test(each)),
  'kill',
  'tool-kills',
  'pause-long',
  'drain',
  'connections-drop',
  'first-subscription-fails',
  'app-loses-sessions',
]

/** Seconds. */
export const LEASE = 1
export const TTL = 6
/** Milliseconds after its last use in which a session is gone for sure: a touch may be a tenth old, a sweep comes within 1.5 s. */
export const GONE_AFTER = TTL * 1250 + 2500
/** Milliseconds that a drain may take. */
const DEADLINE = 20_000
/** Milliseconds in which a message between nodes that was lost is noticed. */
const NOTICED = 2500
/**
 * Milliseconds that everything may take to come right when nothing goes wrong any more: a client that stays calls late, and may
 * then wait for two questions that nobody has heard.
 */
export const PATIENCE = 75_000

/** A cluster, its store and its clients, all in one thread and on one clock. */
export class World {
  readonly has: ReadonlySet<Ingredient>
  readonly outside: Process
  readonly time: Time
  readonly trace: Trace
  readonly violations: Violations
  readonly ledger = new Ledger(() => this.time.now)
  readonly server: StoreServer
  readonly faults: Faults
  readonly random: Random
  readonly nodes: SimulatedNode[] = []
  readonly clients: SimulatedClient[] = []
  /** Drains under way. */
  readonly closing: Promise<void>[] = []
  readonly writes: Writes
  readonly #source: Source
  readonly #wire: Wire
  readonly #unstored = new Set<string>()

  constructor({ source, seed, has, trace = false }: WorldOptions) {
    this.has = has
    this.#source = source
    this.random = new Random(seed)
    this.outside = new Process('world', this.random.fork())
    this.time = new Time(this.outside)
    this.trace = new Trace(this.time, trace)
    this.violations = new Violations(() => this.time.now)
    this.writes = new Writes(this.violations, () => this.time.now)
    this.faults = new Faults(this.time, this.random.fork(), has)
    this.server = new StoreServer(source, this.time, this.writes, seed, has.has('store-loses-moments'))
    // While the store is away for all, nobody's lease says anything: whoever takes a session then has not waited.
    const renews = !(['store-fails-before', 'store-fails-after', 'store-slow'] as const).some((each) =>
      has.has(each),
    )
    this.server.onLapsed = () => {
      if (!renews) this.harm()
    }
    const slow = has.has('client-is-slow') ? 0.3 : 0
    this.#wire = new Wire({ time: this.time, trace: this.trace, random: this.random.fork(), slow })
  }

  /** The store did not hear of any use for a ttl, because whoever would have told it was harmed, or did not reach it. */
  #outlived(session: string): boolean {
    const used = this.writes.usedAt(session)
    return this.time.now - used > TTL * 1000 && (this.faults.last >= used || this.harmedSince(used))
  }

  /** What the app does not answer is not the fault of a drain. */
  get #appHangs(): boolean {
    return (
      this.has.has('app-hangs') || this.has.has('app-hangs-in-initialize') || this.has.has('app-late-head')
    )
  }

  get alive(): readonly SimulatedNode[] {
    return this.nodes.filter((node) => node.process.alive && !node.closed)
  }

  /** Where a load balancer sends a client: to a draining node only while it does not know better. */
  anyNode(random: Random): SimulatedNode {
    const alive = this.alive
    const fresh = alive.filter((node) => !node.draining)
    if (alive.length === 0) return this.nodes.at(-1)!
    return random.pick(fresh.length > 0 && !random.chance(0.1) ? fresh : alive)
  }

  addNode(): SimulatedNode {
    const { time, trace, has, random, faults, server, ledger } = this
    const clocks = has.has('clocks-apart')
      ? { rate: 1 + (random.next() - 0.5) / 50, ahead: random.between(-3_600_000, 3_600_000) }
      : {}
    const process = new Process(`node-${this.nodes.length + 1}`, random.fork(), clocks)
    const store = new StoreConnection({
      source: this.#source,
      time,
      server,
      process,
      faults,
      trace,
      onUnstored: (session) => this.#unstored.add(session),
    })
    const app = new SimulatedApp({
      time,
      process,
      ledger,
      random: random.fork(),
      has,
      trace,
      onKilled: () => this.kill(node),
      onHarm: () => this.harm(),
      onStray: (what) => this.violations.add('private', `the app of ${process.name} got the ${what}`),
      isCalm: () => faults.calm,
    })
    const options: PersistOptions = {
      ttl: TTL,
      lease: LEASE,
      keepAlive: has.has('keep-alive') ? 500 : 0,
      priming: !has.has('no-priming'),
      ...(has.has('idle-0') && { idle: 0 }),
      ...(has.has('retry-interval') && { retryInterval: 50 }),
      ...(has.has('fail-on-store-error') && { onStoreError: 'fail' }),
      ...(has.has('principal') && {
        principal: (request: { headers: Headers }) => request.headers.get('authorization'),
      }),
    }
    // An engine starts its timers when it is made: that is the first turn of its process.
    const node: SimulatedNode = time.within(
      process,
      () => new SimulatedNode({ source: this.#source, time, process, trace, app, store, options }),
    )
    this.nodes.push(node)
    return node
  }

  addClient(user: string, stranger = false): SimulatedClient {
    const { time, random, violations, has, faults } = this
    const process = new Process(stranger ? 'stranger' : `client-${this.clients.length + 1}`, random.fork())
    const own = random.fork()
    const client = new SimulatedClient({
      time,
      process,
      random: own,
      wire: this.#wire,
      violations,
      anyNode: () => this.anyNode(own),
      user,
      stranger,
      cuts: () => has.has('client-cuts') && !faults.calm && own.chance(0.3),
      isUnstored: (session) => this.isUnstored(session),
      mayBeGone: (session) => this.writes.forgotten.length > 0 || this.#outlived(session),
    })
    if (!stranger) this.clients.push(client)
    return client
  }

  kill(node: SimulatedNode): void {
    if (!node.process.alive) return
    this.trace.say(node.name, 'is killed')
    this.harm()
    node.kill()
    this.ledger.kill(node.name)
    // A process manager starts another.
    if (this.alive.length === 0) this.addNode()
    else this.time.after(50, () => this.addNode(), this.outside)
  }

  /** A drain, and how long it took. */
  close(node: SimulatedNode): Promise<void> {
    const { time, ledger, violations } = this
    node.draining = true
    const began = time.now
    const closing = new Promise<void>((resolve) => {
      const settle = () => time.after(0, resolve, this.outside)
      node.onKilled.add(settle)
      time.after(
        0,
        () => {
          void node.close(DEADLINE).then((took) => {
            // Without priming, a client that has come later may have nothing to come again with elsewhere.
            const begun = this.has.has('no-priming') ? time.now : began
            const until = Math.max(0, ledger.ended(begun) - began)
            // What the store does not take is kept for it, and the session with it.
            const { last } = this.faults
            const most = last >= began - NOTICED ? Math.max(until, last - began) + 5000 : until + 1000
            if (this.#appHangs || took <= most) return settle()
            const facts = `its longest call took ${Math.round(until)} ms`
            violations.add(
              took < DEADLINE * 0.9 ? 'drains' : 'deadline',
              `${node.name} took ${Math.round(took)} ms; ${facts}`,
            )
            settle()
          })
        },
        node.process,
      )
    })
    return closing
  }

  harm(): void {
    this.ledger.harms.push(this.time.now)
  }

  harmedSince(moment: number): boolean {
    // What harmed a node before the call began may be noticed within a lease.
    const from = moment - LEASE * 2500
    return this.ledger.harms.some((at) => at >= from)
  }

  /** Is it so long ago that what was stored then has expired, and has something happened that it is needed for? */
  isOutlived(moment: number): boolean {
    const isNeeded = this.harmedSince(moment) || this.nodes.some(({ store }) => store.isAwaySince(moment))
    return this.time.now - moment > TTL * 1000 && isNeeded
  }

  isUnstored(session: string): boolean {
    return this.#unstored.has(session)
  }

  call(client: SimulatedClient, name: string, random: Random): ClientCall {
    const { time, ledger, violations, has } = this
    return new ClientCall({
      client,
      ledger,
      violations,
      name,
      tool: random.chance(0.5) ? 'safe' : 'unsafe',
      steps: script(name, random, has),
      cancelAfter: has.has('client-cancels') && random.chance(0.3) ? random.between(0, 300) : undefined,
      mayForget: has.has('store-loses-moments'),
      sleep: (ms) => time.sleep(ms),
      now: () => time.now,
      isForgotten: (from, to) => this.writes.isForgotten(from, to),
      isOverdue: (process) => this.nodes.some(({ name, overdue }) => name === process && overdue),
      // An owner of whom the store has forgotten that it is one is as cut off as one that does not reach it, for a lease.
      isCutOffSince: (moment) =>
        this.nodes.some(({ store }) => store.isAwaySince(moment)) ||
        this.writes.isForgotten(moment - LEASE * 1000, time.now),
      isOutlived: (moment) => this.isOutlived(moment),
      isOld: (moment) => time.now - moment >= TTL * 500,
      harmedSince: (moment) => this.harmedSince(moment),
      harms: () => ledger.harms.length,
      runsOf: (call) => this.writes.records(call).length,
      isUnstored: (session) => this.isUnstored(session),
    })
  }

  listening(client: SimulatedClient): Listening {
    return new Listening(client, this.violations, this.time, !UNDELIVERED.some((each) => this.has.has(each)))
  }

  /** Everybody goes, a ttl passes, all nodes close. */
  async end(): Promise<void> {
    await checkExpired(this)
    checkAnswered(this)
    if (this.has.has('client-returns-late'))
      await Promise.all(this.clients.map((client) => returnLate(this, client)))
    await checkLeftovers(this)
  }
}
