import type { Guard } from '../support/apps/guarded.ts'
import { type Journal, memoryJournal } from '../support/journal.ts'
import { FreshSessions, openSession, type Pair } from './fresh.ts'
import type { Kind } from './kinds.ts'
import type { Package } from './package.ts'
import { namedIn, type Plan, type Side, USERS, type User } from './plan.ts'
import { render } from './render.ts'
import { type Node, unwrappedNode, wrappedNode } from './side.ts'
import { Victim } from './victim.ts'
import type { Outcome } from './wire.ts'

/** What requests and victims call. */
const TOOLS = ['burst', 'counter', 'echo', 'sample', 'session_id', 'slow', 'subscriptions']

/** The sessions that a request names as fresh. */
export type Fresh = ReadonlyMap<User, Pair>

/** An app and the same app wrapped, each with the same two users whose sessions are in use. */
export class World {
  readonly kind: Kind
  readonly journals: Readonly<Record<Side, Journal>> = {
    unwrapped: memoryJournal(),
    wrapped: memoryJournal(),
  }
  /** Numbers of requests that either side was asked a second time. */
  readonly askedTwice = new Set<number>()
  /** What the wrapped one has logged. */
  readonly log: string[] = []
  readonly #package: Package
  readonly #store
  #unwrapped!: Node
  #nodes: Node[] = []
  readonly #victims: Record<Side, Victim[]> = { unwrapped: [], wrapped: [] }
  readonly #fresh = new FreshSessions((user) => this.#pair(user))
  #settled = false

  private constructor(kind: Kind, pkg: Package) {
    this.kind = kind
    this.#package = pkg
    this.#store = new pkg.MemoryEventStore()
  }

  static async open(kind: Kind, pkg: Package): Promise<World> {
    const world = new World(kind, pkg)
    world.#unwrapped = await unwrappedNode(kind, world.#guard('unwrapped'))
    for (let i = kind.place === 'at the owner' ? 1 : 2; i > 0; i -= 1) world.#nodes.push(await world.#node())
    for (const user of USERS) {
      world.#victims.unwrapped.push(await world.#victim(user, world.#unwrapped))
      world.#victims.wrapped.push(await world.#victim(user, world.#nodes[0]!))
    }
    return world
  }

  /** The owner of the users' sessions leaves, and another node comes. */
  async moveOn(): Promise<void> {
    this.#settled = true
    this.#fresh.clear()
    await this.#nodes.shift()!.close()
    this.#nodes.push(await this.#node())
    for (const victim of this.#victims.wrapped) victim.move(this.#nodes[0]!.url)
  }

  /** What `ask` needs for this request, and the same for both sides. */
  async fresh(plan: Plan, { unused = false } = {}): Promise<Fresh> {
    const fresh = new Map<User, Pair>()
    for (const name of namedIn(plan)) {
      const [user, which] = name.split('.') as [User, string]
      if (which !== 'fresh' || !USERS.includes(user)) continue
      fresh.set(user, await (unused ? this.#pair(user) : this.#fresh.take(user)))
    }
    return fresh
  }

  /** They are as good as they were: both sides have said the same, and nothing of it goes on. */
  reuse(fresh: Fresh): void {
    for (const [user, pair] of fresh) this.#fresh.giveBack(user, pair)
  }

  /** Undefined: this cannot be said to such a server. */
  ask(plan: Plan, side: Side, fresh: Fresh): Promise<Outcome | undefined> {
    const node = side === 'unwrapped' ? this.#unwrapped : this.#nodes[plan.number % this.#nodes.length]!
    return node.ask(plan, (name) => this.#name(name, side, fresh))
  }

  /** As they would be over HTTP/1. */
  bytes(plan: Plan, side: Side, fresh: Fresh) {
    return render(plan, (name) => this.#name(name, side, fresh))
  }

  /** What is wrong with the users' own sessions. */
  async check(): Promise<string | undefined> {
    const wrong = await Promise.all(this.#victims.wrapped.map((victim) => victim.check(this.#settled)))
    return wrong.find((each) => each !== undefined)
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#victims).flatMap((list) => list.map((victim) => victim.end())))
    await Promise.all([this.#unwrapped, ...this.#nodes].map((node) => node.close()))
    await this.#store.close()
  }

  secrets(): readonly { user: User; secret: string; ids: readonly string[] }[] {
    return this.#victims.wrapped.map((victim) => ({
      user: victim.user,
      secret: victim.secret,
      ids: [victim.name('id'), victim.name('own')],
    }))
  }

  #name(name: string, side: Side, fresh: Fresh): string {
    const { header, token } = this.kind.identity
    const [first = '', which, what = ''] = name.split('.')
    if (first === 'credential') return header
    if (first === 'token') return token(which as User)
    if (which === 'fresh')
      return what === 'id' || what === 'own' ? (fresh.get(first as User)?.[side] ?? '') : '0'
    // What a spelling has made of a name is none.
    return this.#victims[side].find(({ user }) => user === first)?.name(what) ?? ''
  }

  #victim(user: User, { url }: Node): Promise<Victim> {
    return Victim.open(user, url, { headers: this.#headers(user), json: this.kind.json === true })
  }

  async #pair(user: User): Promise<Pair> {
    const { header, token } = this.kind.identity
    const open = ({ wire }: Node) => openSession(wire, `${header}: ${token(user)}`)
    const [unwrapped, wrapped] = await Promise.all([open(this.#unwrapped), open(this.#nodes[0]!)])
    return { unwrapped, wrapped }
  }

  #headers(user: User): Record<string, string> {
    const { header, token } = this.kind.identity
    return { [header.toLowerCase()]: token(user) }
  }

  #node(): Promise<Node> {
    return wrappedNode(this.kind, this.#guard('wrapped'), {
      pkg: this.#package,
      store: this.#store,
      log: (line) => void this.log.push(line),
    })
  }

  #guard(side: Side): Guard {
    const { header, token, appLooks, setsAuth } = this.kind.identity
    return {
      journal: this.journals[side],
      users: new Map(USERS.map((user) => [token(user).replace(/^Bearer /, ''), user])),
      header: header.toLowerCase(),
      alias: '/rpc',
      tools: TOOLS,
      ...(this.kind.json && { json: true }),
      ...((appLooks || side === 'unwrapped') && { stranger: 404 }),
      ...(setsAuth && { setsAuth }),
    }
  }
}
