import type { Clock } from '../../clock.ts'
import type { NodeRecord, NodeTable } from '../port.ts'

interface Node extends NodeRecord {
  leaseUntil: number
}

/** A node is gone when its lease is over: there is no other way to die inside one process. */
export class MemoryNodes implements NodeTable {
  readonly #nodes = new Map<string, Node>()
  readonly #clock: Clock
  readonly #assertOpen: () => void

  constructor(clock: Clock, assertOpen: () => void) {
    this.#clock = clock
    this.#assertOpen = assertOpen
  }

  async register(node: NodeRecord, lease: number): Promise<void> {
    this.#assertOpen()
    this.#nodes.set(node.id, { ...node, leaseUntil: this.#clock.now() + lease })
  }

  async renew(id: string, lease: number): Promise<boolean> {
    this.#assertOpen()
    const node = this.live(id)
    if (node) node.leaseUntil = this.#clock.now() + lease
    return node !== undefined
  }

  async unregister(id: string): Promise<void> {
    this.#assertOpen()
    this.#nodes.delete(id)
  }

  async get(id: string): Promise<NodeRecord | undefined> {
    this.#assertOpen()
    const node = this.live(id)
    return node && { id: node.id, publicKey: node.publicKey, profile: node.profile }
  }

  async list(): Promise<readonly NodeRecord[]> {
    const nodes = await Promise.all([...this.#nodes.keys()].slice(0, 1000).map((id) => this.get(id)))
    return nodes.filter((node) => node !== undefined)
  }

  live(id: string): Node | undefined {
    const node = this.#nodes.get(id)
    return node && node.leaseUntil > this.#clock.now() ? node : undefined
  }

  count(): number {
    return [...this.#nodes.keys()].filter((id) => this.live(id)).length
  }

  sweep(dryRun: boolean): number {
    const dead = [...this.#nodes.keys()].filter((id) => !this.live(id))
    if (!dryRun) for (const id of dead) this.#nodes.delete(id)
    return dead.length
  }
}
