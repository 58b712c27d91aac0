import { type Bus, type NodeRecord, type NodeTable, refuseTooLong } from 'mcp-persist/backend'
import type { JsonFile } from './json-file.ts'

type Listener<T> = (heard: T | undefined) => void

/** Nodes and what they say to each other: all of them are in this process, and nothing of it need outlive the process. */
export class LocalNetwork {
  readonly #file: JsonFile
  readonly #nodes = new Map<string, NodeRecord & { leaseUntil: number }>()
  readonly #receivers = new Map<string, Set<Listener<Uint8Array>>>()
  readonly #listeners = new Map<string, Set<Listener<string>>>()

  constructor(file: JsonFile) {
    this.#file = file
  }

  live(id: string) {
    const node = this.#nodes.get(id)
    return node && node.leaseUntil > Date.now() ? node : undefined
  }

  count(): number {
    return [...this.#nodes.keys()].filter((id) => this.live(id)).length
  }

  sweep(dryRun: boolean): number {
    const dead = [...this.#nodes.keys()].filter((id) => !this.live(id))
    if (!dryRun) for (const id of dead) this.#nodes.delete(id)
    return dead.length
  }

  close(): void {
    this.#receivers.clear()
    this.#listeners.clear()
  }

  readonly nodes: NodeTable = {
    register: (node, lease) =>
      this.#file.read(() => void this.#nodes.set(node.id, { ...node, leaseUntil: Date.now() + lease })),
    renew: (id, lease) =>
      this.#file.read(() => {
        const node = this.live(id)
        if (node) node.leaseUntil = Date.now() + lease
        return node !== undefined
      }),
    unregister: (id) => this.#file.read(() => void this.#nodes.delete(id)),
    get: (id) =>
      this.#file.read(() => {
        const node = this.live(id)
        return node && { id, publicKey: node.publicKey, profile: node.profile }
      }),
    list: () =>
      this.#file.read(() =>
        [...this.#nodes.values()]
          .filter(({ id }) => this.live(id))
          .map(({ id, publicKey, profile }) => ({ id, publicKey, profile })),
      ),
  }

  readonly bus: Bus = {
    send: (nodeId, message) =>
      this.#file.read(() => {
        refuseTooLong(message)
        if (!this.live(nodeId)) return false
        tell(this.#receivers, nodeId, message)
        return true
      }),
    receive: (nodeId, onMessage) => this.#file.read(() => listen(this.#receivers, nodeId, onMessage)),
    publish: (channel, text) => this.#file.read(() => tell(this.#listeners, channel, text)),
    subscribe: (channel, onWake) => this.#file.read(() => listen(this.#listeners, channel, onWake)),
  }
}

function listen<T>(map: Map<string, Set<Listener<T>>>, name: string, listener: Listener<T>) {
  const listeners = map.get(name) ?? new Set()
  map.set(name, listeners.add(listener))
  return { close: async () => void listeners.delete(listener) }
}

/** A listener never runs inside the call that told it, nor after it was closed. */
function tell<T>(map: Map<string, Set<Listener<T>>>, name: string, heard: T | undefined): number {
  const listeners = map.get(name)
  for (const listener of listeners ?? []) {
    setImmediate(() => {
      if (map.get(name) === listeners && listeners?.has(listener)) listener(heard)
    })
  }
  return listeners?.size ?? 0
}
