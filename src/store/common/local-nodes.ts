import type { NodeRecord, NodeTable } from '../port.ts'

/** A node table that remembers which nodes are in this process: those that were registered through it. */
export class LocalNodes implements NodeTable {
  readonly #nodes: NodeTable
  readonly #known = new Set<string>()
  readonly #registered = new Set<string>()

  constructor(nodes: NodeTable) {
    this.#nodes = nodes
  }

  /** Undefined: none is registered now. */
  get current(): string | undefined {
    return [...this.#registered].at(-1)
  }

  /** Is, or was, it one of ours? A node whose lease lapsed comes back under another id, and its work goes on. */
  has(id: string): boolean {
    return this.#known.has(id)
  }

  async register(node: NodeRecord, lease: number): Promise<void> {
    this.#known.add(node.id)
    await this.#nodes.register(node, lease)
    this.#registered.add(node.id)
  }

  async unregister(id: string): Promise<void> {
    this.#registered.delete(id)
    await this.#nodes.unregister(id)
  }

  renew(id: string, lease: number) {
    return this.#nodes.renew(id, lease)
  }

  list() {
    return this.#nodes.list()
  }

  get(id: string) {
    return this.#nodes.get(id)
  }
}
